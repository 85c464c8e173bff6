"""Proving a backup: it is restored into databases of its own, which are compared with what was read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from pymongo.database import Database

from kowalski.archive.client import DURABLE, PLAIN, Document, Role, connect
from kowalski.config import Settings
from kowalski.dumps import restore
from kowalski.dumps.backup import RAW
from kowalski.dumps.manifest import Kept
from kowalski.dumps.places import Place


def verify(settings: Settings, place: Place, name: str, progress: restore.Progress) -> Iterator[tuple[str, str | None]]:
    """Restore a backup into scratch databases, compare, and drop them again.

    Each file must fit its checksum, each collection must have the number of documents and the checksum that it had when
    it was read, and its indexes must be possible. The account of ``database.admin_username`` makes the databases.

    Yields
    ------
    tuple
        A collection, and what is wrong with it (None: nothing).

    Raises
    ------
    DumpError
        If a file is missing or damaged.
    """
    found = restore.look(place, name)
    scratch = f"{settings.database.db}_verify_{secrets.token_hex(4)}"
    with connect(settings, Role.ADMIN) as admin:

        def database(kept: Kept) -> Database[Document]:
            return admin.get_database(f"{scratch}_{kept}", codec_options=PLAIN, write_concern=DURABLE)

        try:
            for restored in restore.restore(place, found.sources, database, progress, expire=False):
                source = restored.source
                there = restore.total(database(source.kept).get_collection(source.name, codec_options=RAW))
                expected = [(restored.new.rows, restored.new.hex)]
                if source.entry is not None and source.entry.digest is not None:
                    expected.append((source.entry.rows or 0, source.entry.digest))
                wrong = next((each for each in expected if each != (there.rows, there.hex)), None)
                trouble = None
                if wrong is not None:
                    trouble = f"{there.rows:,} documents with checksum {there.hex}, not {wrong[0]:,} with {wrong[1]}"
                yield source.label, trouble
        finally:
            for kept in ("data", "system"):
                admin.drop_database(f"{scratch}_{kept}")
