"""What a backup consists of: one JSON file per backup, with a checksum of its own.

Every manifest is a whole point to restore from: it names all chunks, those of earlier backups among them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kowalski.dumps.errors import DumpError
from kowalski.dumps.places import Place

FORMAT = 1
PREFIX, SUFFIX = "backup-", ".json"

Kept = Literal["data", "system"]
"""Which database a collection is in; their names may differ where it is restored."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChunkEntry(_Model):
    """One file: the SHA-256 of its documents, and how many there are."""

    sha256: str
    rows: int
    bytes: int
    since: bool = False
    """Whether it holds what came after a date, and wins over the chunks that are not such."""


class CollectionEntry(_Model):
    """One collection.

    Attributes
    ----------
    options, indexes
        As MongoDB tells them, in Extended JSON.
    rows, digest
        Of the whole collection; null if the backup only added what was new (``since``).
    chunks
        In order; of documents with the same ``_id`` the last one counts.
    """

    kept: Kept
    name: str
    options: str
    indexes: str
    rows: int | None
    digest: str | None
    chunks: list[ChunkEntry]

    @property
    def label(self) -> str:
        """How the operator names it."""
        return label(self.kept, self.name)


class Manifest(_Model):
    """One backup."""

    format: int = FORMAT
    made_at: str
    database: str
    schema_version: int
    collections: list[CollectionEntry]

    def find(self, kept: str, name: str) -> CollectionEntry | None:
        """Find a collection."""
        return next((each for each in self.collections if (each.kept, each.name) == (kept, name)), None)


def label(kept: str, name: str) -> str:
    """Name a collection as operators do: those of the system database behind ``system:``."""
    return name if kept == "data" else f"{kept}:{name}"


def chunk_path(entry: CollectionEntry, chunk: ChunkEntry) -> str:
    """Where a chunk lies within a backup's folder."""
    return path_of(entry.kept, entry.name, chunk.sha256)


def path_of(kept: str, name: str, sha256: str) -> str:
    """Where the chunk of a collection lies that has this checksum."""
    return f"chunks/{kept}/{name}/{sha256}.parquet"


def listing(place: Place) -> list[str]:
    """List the backups at a place, oldest first, by the name of their manifest."""
    return [name for name in place.names() if name.startswith(PREFIX) and name.endswith(SUFFIX)]


def write(place: Place, manifest: Manifest) -> str:
    """Write a manifest; returns its name."""
    body = manifest.model_dump_json()
    name = f"{PREFIX}{manifest.made_at.replace(':', '').replace('-', '')}{SUFFIX}"
    with place.writing(name) as file:
        file.write(json.dumps({"sha256": _digest(body), "manifest": body}, indent=1).encode())
    return name


def read(place: Place, name: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    DumpError
        If it is damaged, or of a format that this Kowalski does not know.
    """
    try:
        with place.open(name) as file:
            content = json.loads(file.read())
        body, digest = content["manifest"], content["sha256"]
        fits = _digest(body) == digest
    except FileNotFoundError as error:
        raise DumpError(f"there is no backup {name}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DumpError(f"the backup's manifest {name} is damaged: {error}") from error
    if not fits:
        raise DumpError(f"the backup's manifest {name} is damaged: it does not fit its checksum")
    if json.loads(body).get("format") != FORMAT:
        raise DumpError(f"the backup {name} is of a newer format; use the Kowalski that made it, or a later one")
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise DumpError(f"the backup's manifest {name} is damaged: {error.errors()[0]['msg']}") from error


def prune(place: Place, keep: int) -> tuple[int, int]:
    """Remove all but the newest ``keep`` backups, and then the chunks that none of these needs.

    Returns
    -------
    tuple of int
        How many backups and how many chunks were removed.
    """
    there = listing(place)
    old, kept = there[:-keep], [read(place, name) for name in there[-keep:]]
    needed = {chunk_path(entry, chunk) for each in kept for entry in each.collections for chunk in entry.chunks}
    gone = [read(place, name) for name in old]
    known = {chunk_path(entry, chunk) for each in gone for entry in each.collections for chunk in entry.chunks}
    for name in old:
        place.remove(name)
    unneeded = sorted(path for path in known - needed if place.exists(path))
    for path in unneeded:
        place.remove(path)
    return len(old), len(unneeded)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
