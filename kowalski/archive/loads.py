"""How far the loading of catalogs has got, so that what was interrupted goes on where it was.

One document per part of a file: ``_id`` is ``[catalog, file, first row]``; ``rows`` of it have been looked at, of which
``new`` were stored, ``present`` were there already, ``left_out`` were not wanted and ``rejected`` could not be stored;
``finished`` when all is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo import WriteConcern
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

Key = tuple[str, str, int]
"""Catalog, file and first row of a part."""


@dataclass(slots=True)
class Progress:
    """What has become of the rows of a part, or of several."""

    rows: int = 0
    new: int = 0
    present: int = 0
    left_out: int = 0
    rejected: int = 0
    finished: bool = False

    def __add__(self, other: Progress) -> Progress:
        return Progress(
            self.rows + other.rows,
            self.new + other.new,
            self.present + other.present,
            self.left_out + other.left_out,
            self.rejected + other.rejected,
            self.finished and other.finished,
        )


def put(system: Database[Document], key: Key, progress: Progress) -> None:
    """Write down how far a part is.

    The server does not wait for its disk and the others of its set: what it forgets is loaded again, to no effect, and
    it remembers nothing that is not in the archive, because that was acknowledged before.
    """
    fields: Document = {"catalog": key[0], "at": datetime.now(UTC), **asdict(progress)}
    ledger = system[names.LOADS].with_options(write_concern=WriteConcern(w=1, j=False))
    ledger.replace_one({"_id": _id(key)}, fields, upsert=True)


def read(system: Database[Document], catalog: str) -> dict[Key, Progress]:
    """Read how far the parts of a catalog are."""
    fields = ("rows", "new", "present", "left_out", "rejected", "finished")
    return {
        (found["_id"]["catalog"], found["_id"]["file"], found["_id"]["start"]): Progress(
            **{name: found[name] for name in fields}
        )
        for found in system[names.LOADS].find({"catalog": catalog})
    }


def forget(system: Database[Document], catalog: str, files: Sequence[str] | None = None) -> None:
    """Forget how far a catalog's files are; all of them by default."""
    where: dict[str, Any] = {"catalog": catalog} | ({} if files is None else {"_id.file": {"$in": list(files)}})
    system[names.LOADS].delete_many(where)


def _id(key: Key) -> Document:
    return {"catalog": key[0], "file": key[1], "start": key[2]}
