"""Backups of the archive: whole points to restore from, of which only what has changed is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from kowalski.archive import client, names
from kowalski.archive.client import Document
from kowalski.config import Settings
from kowalski.dumps import chunks, manifest
from kowalski.dumps.chunks import Sum
from kowalski.dumps.errors import DumpError
from kowalski.dumps.manifest import ChunkEntry, CollectionEntry, Kept, Manifest
from kowalski.dumps.places import Place
from kowalski.migrations import registry
from kowalski.science.dates import jd_of
from kowalski.surveys import SURVEYS
from kowalski.surveys.base import Survey

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
OBJECTS_AT_ONCE = 1000
PASSING = frozenset({names.COUNTS, names.LEASES})
"""Collections that are true for a minute and of no use afterwards."""

Progress = Callable[[str, int, int], None]
"""Is told a collection's name, documents done, and documents there are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to back up.

    Attributes
    ----------
    collections
        Names, those of the system database behind ``system:``; none: all of the data database.
    system
        All of the system database, too: users, filters, outboxes, dead letters.
    since
        Read only alerts observed since then, and their objects; take over everything else of the data database that the
        backup before has, as it was then.
    """

    collections: Collection[str] = ()
    system: bool = False
    since: datetime | None = None


@dataclass(slots=True)
class Made:
    """What `make` has done: the manifest's name, and files and documents' bytes that were written, or not again."""

    name: str = ""
    manifest: Manifest | None = None
    written: Sum = field(default_factory=Sum)
    kept: Sum = field(default_factory=Sum)


def make(settings: Settings, place: Place, wanted: Wanted, progress: Progress) -> Made:
    """Back up collections; what the backup before has already is not written again.

    Collections that are not wanted now, but are in the backup before, are not in this one.

    Raises
    ------
    DumpError
        If a collection is not there, or ``since`` has no backup before it.
    """
    made = Made()
    earlier = manifest.listing(place)
    before = manifest.read(place, earlier[-1]) if earlier else None
    if wanted.since is not None and before is None:
        raise DumpError("--since adds to a backup, and there is none at this place yet; make one without it first")
    with client.connect(settings) as connection:
        entries = []
        for kept, name in _chosen(connection, settings, wanted):
            run = _Run(place, kept, name, _database(connection, settings, kept), before, made, progress)
            entries.append(run.since(wanted.since) if wanted.since is not None else run.whole())
        version = registry.version(client.system_database(connection, settings))
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made.manifest = Manifest(made_at=moment, database=settings.database.db, schema_version=version, collections=entries)
    made.name = manifest.write(place, made.manifest)
    return made


@dataclass(frozen=True, slots=True)
class _Run:
    """The backup of one collection."""

    place: Place
    kept: Kept
    name: str
    database: Database[Document]
    before: Manifest | None
    made: Made
    progress: Progress

    def whole(self) -> CollectionEntry:
        """Read the whole collection."""
        total = Sum()
        collection = self.database[self.name]
        found = self._write(_in_order(collection.database, self.name, {}), total, since=False)
        return self._entry(found, total.rows, total.hex)

    def since(self, moment: datetime) -> CollectionEntry:
        """Add what is new to what the backup before has; small collections, and those that it lacks, as a whole."""
        before = self.before.find(self.kept, self.name) if self.before is not None else None
        if before is None or self.kept == "system":
            return self.whole()
        survey = next((each for each in SURVEYS.values() if self.name in (each.alerts, each.objects)), None)
        if survey is None:
            self.progress(self.name, 1, 1)
            return before
        found = self._write(self._new(survey, jd_of(moment)), Sum(), since=True)
        return self._entry([*before.chunks, *found], None, None)

    def _new(self, survey: Survey, jd: float) -> Iterator[bytes]:
        recent: Document = {"candidate.jd": {"$gte": jd}}
        if self.name == survey.alerts:
            yield from _in_order(self.database, self.name, recent)
            return
        grouped = [{"$match": recent}, {"$group": {"_id": f"${survey.object_id_field}"}}]
        objects = sorted(each["_id"] for each in self.database[survey.alerts].aggregate(grouped, allowDiskUse=True))
        for start in range(0, len(objects), OBJECTS_AT_ONCE):
            some = objects[start : start + OBJECTS_AT_ONCE]
            yield from _in_order(self.database, self.name, {"_id": {"$in": some}})

    def _write(self, documents: Iterable[bytes], total: Sum, *, since: bool) -> list[ChunkEntry]:
        expected = self.database[self.name].estimated_document_count()
        there = self._there()
        entries = []
        done = 0
        for chunk in chunks.cut(documents):
            for document in chunk.documents:
                total.add(document)
            entry = ChunkEntry(sha256=chunk.name, rows=len(chunk.documents), bytes=chunk.size, since=since)
            path = manifest.path_of(self.kept, self.name, entry.sha256)
            counted = self.made.kept if entry.sha256 in there else self.made.written
            if entry.sha256 not in there:
                chunks.write(self.place, path, chunk)
            counted.rows += entry.rows
            counted.size += entry.bytes
            entries.append(entry)
            done += entry.rows
            self.progress(self.name, done, max(expected, done))
        return entries

    def _there(self) -> set[str]:
        """Which chunks are there already; they are written as a whole or not at all, so a name is enough."""
        found = self.place.names(f"chunks/{self.kept}/{self.name}")
        return {name.removesuffix(".parquet") for name in found}

    def _entry(self, found: list[ChunkEntry], rows: int | None, digest: str | None) -> CollectionEntry:
        (info,) = self.database.list_collections(filter={"name": self.name})
        indexes = [dict(index) for index in self.database[self.name].list_indexes()]
        return CollectionEntry(
            kept=self.kept,
            name=self.name,
            options=json_util.dumps(info.get("options", {})),
            indexes=json_util.dumps(indexes),
            rows=rows,
            digest=digest,
            chunks=found,
        )


def _in_order(database: Database[Document], name: str, where: Document) -> Iterator[bytes]:
    """Read documents as they are stored, in order of ``_id``."""
    found: Any = database.get_collection(name, codec_options=RAW).find_raw_batches(where, sort=[("_id", 1)])
    for batch in found:  # bytes, whatever the codec
        yield from chunks.split(batch)


def _database(connection: MongoClient[Document], settings: Settings, kept: Kept) -> Database[Document]:
    choose = client.data_database if kept == "data" else client.system_database
    return choose(connection, settings)


def _chosen(connection: MongoClient[Document], settings: Settings, wanted: Wanted) -> list[tuple[Kept, str]]:
    there: dict[str, tuple[Kept, str]] = {}
    kinds: Mapping[Kept, bool] = {"data": not wanted.collections, "system": wanted.system}
    for kept in kinds:
        found = _database(connection, settings, kept).list_collection_names(filter={"type": "collection"})
        for name in sorted(found):
            if not name.startswith("system.") and not (kept == "system" and name in PASSING):
                there[manifest.label(kept, name)] = (kept, name)
    missing = [name for name in wanted.collections if name not in there]
    if missing:
        raise DumpError(f"there is no collection {missing[0]}; there are {', '.join(there) or 'none'}")
    return [each for name, each in there.items() if name in wanted.collections or kinds[each[0]]]
