"""Dumps back into MongoDB: what there is to restore at a place, and restoring it.

One rule holds for all: a document whose ``_id`` is there already is left as it is. So restoring may be repeated, and
after an interruption it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure

from kowalski.archive import names
from kowalski.archive.client import DURABLE, Document
from kowalski.dumps import chunks, manifest
from kowalski.dumps.backup import RAW
from kowalski.dumps.chunks import Sum
from kowalski.dumps.errors import DumpError
from kowalski.dumps.manifest import CollectionEntry, Kept, Manifest
from kowalski.dumps.mongodump import Archive, Dumped
from kowalski.dumps.places import Place

BATCH_ROWS, BATCH_BYTES = 2000, 8 * 1024 * 1024
DUPLICATE = 11000
RESTORED = frozenset({"collection", "view"})
OF_THE_SERVER = frozenset({"admin", "config", "local", ""})
EXPIRES = "expireAfterSeconds"
NAMESPACE_EXISTS = 48

Progress = Callable[[str, int, int | None], None]
"""Is told a collection's name, documents done, and documents there are if that is known."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that can be restored: a collection in a backup of ours or in an archive of mongodump."""

    kept: Kept
    name: str
    rows: int | None
    """How many documents, if that is known before."""
    file: str
    """The manifest or the archive."""
    entry: CollectionEntry | None = None
    dumped: Dumped | None = None

    @property
    def label(self) -> str:
        """How the operator names it."""
        return manifest.label(self.kept, self.name)


@dataclass(slots=True)
class Found:
    """What `look` found at a place; ``ignored`` gives a file's reason for not being used."""

    sources: list[Source] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)


@dataclass(slots=True)
class Restored:
    """What became of one collection: documents put in, and those whose ``_id`` was there already."""

    source: Source
    new: Sum = field(default_factory=Sum)
    present: int = 0

    @property
    def seen(self) -> int:
        """Documents that the dump has given so far."""
        return self.new.rows + self.present


def look(place: Place, backup: str | None = None) -> Found:
    """Find what can be restored at a place: our backup (the newest, or the one named), and archives of mongodump.

    Files are known by their content, whatever their name.

    Raises
    ------
    DumpError
        If there is no such place, or our backup is damaged.
    """
    if not place.exists():
        raise DumpError(f"there is no folder {place.root}")
    found = Found()
    backups = manifest.listing(place)
    chosen = backup or (backups[-1] if backups else None)
    if chosen is not None:
        found.manifests[chosen] = content = manifest.read(place, chosen)
        for entry in content.collections:
            found.sources.append(Source(entry.kept, entry.name, entry.rows, chosen, entry=entry))
    if backup is None:
        for name in place.names():
            if name not in backups:
                _look_into(place, name, found)
    return found


def _look_into(place: Place, name: str, found: Found) -> None:
    with place.open(name) as file:
        try:
            archive = Archive(file, name)
        except DumpError as error:
            found.ignored[name] = str(error)
            return
    for dumped in archive.collections:
        where = f"{dumped.database}.{dumped.name}"
        if dumped.kind not in RESTORED or dumped.database in OF_THE_SERVER or dumped.name.startswith("system."):
            found.ignored[f"{where} in {name}"] = f"a {dumped.kind} of the server's own or without documents"
            continue
        is_system = dumped.database.endswith("_system") or dumped.name in names.SYSTEM
        found.sources.append(Source("system" if is_system else "data", dumped.name, None, name, dumped=dumped))


def restore(
    place: Place,
    sources: Sequence[Source],
    databases: Callable[[Kept], Database[Document]],
    progress: Progress,
    *,
    drop: bool = False,
    expire: bool = True,
) -> Iterator[Restored]:
    """Put collections in, then make their indexes.

    Parameters
    ----------
    sources
        Some of those that `look` has found.
    databases
        Gives the database of each kind.
    drop
        Remove each collection first.
    expire
        Make those indexes, too, by which MongoDB deletes what is old.

    Raises
    ------
    DumpError
        If a dump is damaged. What came before stays: restoring again goes on from there.
    """
    for source in sources:
        if source.entry is not None:
            options = json_util.loads(source.entry.options)
            target = _Target(_prepare(databases(source.kept), source.name, options, drop=drop), Restored(source))
            _from_backup(place, source.entry, target, progress)
            indexes = json_util.loads(source.entry.indexes)
            make_indexes(target.collection, [each for each in indexes if expire or EXPIRES not in each])
            yield target.done
    for file in dict.fromkeys(source.file for source in sources if source.dumped is not None):
        yield from _from_archive(
            place, file, [each for each in sources if each.file == file], databases, progress, drop
        )


def _from_backup(place: Place, entry: CollectionEntry, target: _Target, progress: Progress) -> None:
    rows = sum(chunk.rows for chunk in entry.chunks)
    added = [chunk for chunk in entry.chunks if chunk.since]
    # The newest first: what is there already is left as it is, so they win.
    for chunk in [*reversed(added), *(chunk for chunk in entry.chunks if not chunk.since)]:
        for document in chunks.read(place, manifest.chunk_path(entry, chunk), chunk.sha256):
            if target.add(document):
                target.flush()
        target.flush()
        progress(entry.label, target.done.seen, rows)
    if not rows:
        progress(entry.label, 0, 0)


def _from_archive(
    place: Place,
    file: str,
    sources: Sequence[Source],
    databases: Callable[[Kept], Database[Document]],
    progress: Progress,
    drop: bool,
) -> Iterator[Restored]:
    targets: dict[tuple[str, str], _Target] = {}
    for source in sources:
        if source.dumped is not None:
            collection = _prepare(databases(source.kept), source.name, source.dumped.options, drop=drop)
            targets[source.dumped.database, source.dumped.name] = _Target(collection, Restored(source))
    with place.open(file) as opened:
        for namespace, document in Archive(opened, file).documents():
            target = targets.get(namespace)
            if target is not None and target.add(document):
                target.flush()
                progress(target.done.source.label, target.done.seen, None)
    for target in targets.values():
        target.flush()
        progress(target.done.source.label, target.done.seen, target.done.seen)
        dumped = target.done.source.dumped
        make_indexes(target.collection, dumped.indexes if dumped is not None else [])
        yield target.done


@dataclass(slots=True)
class _Target:
    """A collection that is being filled, and documents on their way to it."""

    collection: Collection[Any]
    done: Restored
    waiting: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, document: bytes) -> bool:
        """Take a document; returns whether there are enough for a batch."""
        self.waiting.append(document)
        self.size += len(document)
        return len(self.waiting) >= BATCH_ROWS or self.size >= BATCH_BYTES

    def flush(self) -> None:
        """Insert what waits."""
        if self.waiting:
            _insert(self.collection, self.waiting, self.done)
        self.waiting, self.size = [], 0


def _insert(target: Collection[Any], documents: Sequence[bytes], done: Restored) -> None:
    """Insert documents as they are, byte by byte."""
    present: set[int] = set()
    try:
        target.insert_many([RawBSONDocument(document) for document in documents], ordered=False)
    except BulkWriteError as error:
        failures = error.details.get("writeErrors", [])
        others = [failure for failure in failures if failure["code"] != DUPLICATE]
        if others or error.details.get("writeConcernErrors"):
            reason = others[0]["errmsg"] if others else error.details["writeConcernErrors"][0]["errmsg"]
            raise DumpError(f"{target.name}: MongoDB refuses a document: {reason}") from error
        present = {failure["index"] for failure in failures}
    done.present += len(present)
    for position, document in enumerate(documents):
        if position not in present:
            done.new.add(document)


def _prepare(database: Database[Document], name: str, options: Document, *, drop: bool) -> Collection[Any]:
    if drop:
        database.drop_collection(name)
    try:
        database.create_collection(name, check_exists=False, **options)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
    return database.get_collection(name, codec_options=RAW, write_concern=DURABLE)


def make_indexes(collection: Collection[Any], indexes: Sequence[Document]) -> None:
    """Make indexes as a dump defines them; those that are there already are left alone."""
    made = [{key: value for key, value in index.items() if key not in ("v", "ns")} for index in indexes]
    made = [index for index in made if index["name"] != "_id_"]
    if made:
        collection.database.command("createIndexes", collection.name, indexes=made)


def total(collection: Collection[Any]) -> Sum:
    """Count a collection and sum up its documents as they are stored."""
    found = Sum()
    for batch in collection.find_raw_batches({}):
        for document in chunks.split(batch):
            found.add(document)
    return found
