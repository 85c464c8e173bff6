"""Loading a catalog: its files in parts, each by one process, with a ledger of how far each part is."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
from distributed import Client, LocalCluster, wait
from pymongo.database import Database

from kowalski.archive import client, loads
from kowalski.archive.client import Document
from kowalski.archive.loads import Progress
from kowalski.config import Settings
from kowalski.garbage import ARROW_MEMORY
from kowalski.ingesters import readers, writing
from kowalski.ingesters.columns import Columns
from kowalski.ingesters.enrichment import Enrichment
from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.sources import Source
from kowalski.ingesters.tables import Options
from kowalski.ingesters.transform import LookUp, Rejected, Transformer, file_prefix
from kowalski.ingesters.writing import Mode, Written

BATCH = 5000
"""Rows of a batch: some MB."""
CONNECT_SECONDS = 2.0
"""Time that the instance's Dask cluster has to answer."""
PATIENCE = 30.0
"""Seconds that it has to get a worker."""
POLL = 0.3
"""Seconds between two looks at how far the other processes are."""

T = TypeVar("T")
Report = Callable[[Progress], None]
Stored = tuple[int, int, list[tuple[int, str]]]
"""How many documents were stored, how many were there, and place and reason of those that were refused."""
Store = Callable[[list[bytes]], Stored]
Span = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be loaded, and how.

    Attributes
    ----------
    catalog
        The collection.
    orders
        HEALPix orders whose cells the documents get.
    enriched
        What the archive adds to them.
    rejects
        File that gets rejected rows, one JSON object per line.
    max_docs
        How many documents are loaded at most, by one process.
    verify
        Write nothing; reject what is not stored as it is in the files.
    dry_run
        Write nothing at all.
    """

    catalog: str
    rejects: Path
    columns: Columns = field(default_factory=Columns)
    options: Options = field(default_factory=Options)
    orders: tuple[int, ...] = ()
    mode: Mode = Mode.INSERT
    enriched: Enrichment | None = None
    batch_size: int = BATCH
    max_docs: int | None = None
    resume: bool = False
    verify: bool = False
    dry_run: bool = False

    @property
    def leaves_traces(self) -> bool:
        """Whether anything is written into the database."""
        return not (self.verify or self.dry_run)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file, and how far they are."""

    source: Source
    span: Span
    done: Progress = field(default_factory=Progress)

    def key(self, catalog: str) -> loads.Key:
        """Name of the part in the ledger."""
        return catalog, self.source.key, self.span[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts that are left to load, and what is done of the others; ``rows`` is the number of all, if known."""

    parts: list[Part]
    done: Progress
    rows: int | None


def plan(settings: Settings, job: Job, files: Sequence[Source]) -> Plan:
    """Look into all files, so that what can't be loaded is told before anything is.

    Raises
    ------
    IngestError
        If a file can't be read, or has not the columns it should have.
    """
    known: dict[loads.Key, Progress] = {}
    if job.leaves_traces:
        with client.connect(settings) as connection:
            system = client.system_database(connection, settings)
            if not job.resume:
                loads.forget(system, job.catalog, [source.key for source in files])
            known = loads.read(system, job.catalog)
    parts, done, rows, total = [], Progress(finished=True), 0, True
    for source in files:
        for span in _spans(source, job):
            part = Part(source, span)
            before = known.get(part.key(job.catalog), Progress())
            done += Progress(before.rows, before.new, before.present, before.left_out, before.rejected, True)
            total = total and span[1] is not None
            rows += (span[1] or 0) - span[0]
            if not before.finished:
                parts.append(Part(source, span, before))
    return Plan(parts, done, rows if total else None)


def run(
    settings: Settings, job: Job, work: Plan, processes: int | None = None, report: Report = lambda _: None
) -> Progress:
    """Load what is left.

    Parameters
    ----------
    processes
        1: this one. Otherwise those of the Dask cluster of the settings, or, if none answers, so many of our own; by
        default one per core.

    Returns
    -------
    Progress
        Of all parts, those that were done before among them.
    """
    job.rejects.parent.mkdir(parents=True, exist_ok=True)
    if not job.resume:
        job.rejects.unlink(missing_ok=True)
    if processes == 1 or job.max_docs is not None or not job.leaves_traces or len(work.parts) <= 1:
        return _here(settings, job, work, report)
    return _with_dask(settings, job, work, processes, report)


def _here(settings: Settings, job: Job, work: Plan, report: Report) -> Progress:
    total = work.done
    for part in work.parts:
        room = None if job.max_docs is None else job.max_docs - total.new - total.present
        if room is not None and room <= 0:
            break
        total = _sum(total, part, load_part(settings, job, part, partial(_report, report, total, part), room))
    return total


def _report(report: Report, total: Progress, part: Part, now: Progress) -> None:
    report(_sum(total, part, now))


def load_part(
    settings: Settings, job: Job, part: Part, report: Report = lambda _: None, most: int | None = None
) -> Progress:
    """Load one part, from where it was left; the next batch is made while MongoDB stores one."""
    progress = part.done
    with client.connect(settings) as connection, readers.opened(part.source, job.options) as reader:
        data, system = (of(connection, settings) for of in (client.data_database, client.system_database))
        transformer = Transformer(
            job.columns,
            job.columns.resolve(reader.layout),
            job.orders,
            file_prefix(part.source.key),
            _look_up(data, job.columns.position_from),
            None if job.enriched is None else partial(job.enriched.fields, data),
        )
        store = _storing(settings, data, job)
        start, end = part.span
        batches = reader.read(start + progress.rows, end, job.batch_size)
        with closing(_ahead((batch.rows, transformer.make(batch)) for batch in batches)) as all_made:
            for rows, made in all_made:
                room = len(made.documents) if most is None else max(most - progress.new - progress.present, 0)
                documents, numbers = made.documents[:room], made.numbers[:room]
                new, present, refused = store(documents)
                rejected = made.rejected + [(numbers[place], reason, "") for place, reason in refused]
                _reject(job.rejects, part.source, rejected)
                progress += Progress(rows, new, present, made.left_out, len(rejected))
                if job.leaves_traces:
                    loads.put(system, part.key(job.catalog), progress)
                report(progress)
                if most is not None and progress.new + progress.present >= most:
                    return progress
        progress.finished = True
        if job.leaves_traces:
            loads.put(system, part.key(job.catalog), progress)
    return progress


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Give items one by one; a thread makes the next while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def preview(job: Job, source: Source) -> Document | None:
    """Give the first document that a file makes."""
    import bson

    with readers.opened(source, job.options) as reader:
        resolved = job.columns.resolve(reader.layout)
        transformer = Transformer(job.columns, resolved, job.orders, file_prefix(source.key))
        for batch in reader.read(0, None, 100):
            for document in transformer.make(batch).documents:
                return bson.decode(document)
    return None


def _storing(settings: Settings, data: Database[Document], job: Job) -> Store:
    """Give what stores documents as the job wants it, or only looks at what is stored."""
    if job.dry_run:
        return lambda documents: (len(documents), 0, [])
    write: Callable[[list[bytes]], Written]
    compare: Callable[[list[bytes]], list[tuple[int, str]]]
    if job.mode is Mode.HISTORIES:
        from kowalski.ingesters import packets  # heavy: all that an alert needs

        histories = packets.Histories(settings, data, job.catalog)
        write, compare = histories.store, histories.compare
    else:
        write = partial(writing.write, data[job.catalog], mode=job.mode)
        compare = partial(writing.compare, data[job.catalog])

    def store(documents: list[bytes]) -> Stored:
        if not documents:
            return 0, 0, []
        if job.verify:
            differing = compare(documents)
            return 0, len(documents) - len(differing), differing
        written = write(documents)
        return written.new, written.present, written.refused

    return store


def _spans(source: Source, job: Job) -> list[Span]:
    with readers.opened(source, job.options) as reader:
        try:
            job.columns.resolve(reader.layout)
        except IngestError as error:
            raise IngestError(f"{source.path}: {error}") from error
        spans: list[Span] = list(reader.layout.parts())
    return spans


def _with_dask(settings: Settings, job: Job, work: Plan, processes: int | None, report: Report) -> Progress:
    before = {part.key(job.catalog): part for part in work.parts}
    with _cluster(settings, processes or os.cpu_count() or 1) as dask, client.connect(settings) as connection:
        system = client.system_database(connection, settings)
        running = [dask.submit(load_part, settings, job, part, pure=False) for part in work.parts]
        while unfinished := not all(future.done() for future in running):
            for future in running:
                if future.status == "error":
                    dask.cancel(running)
                    future.result()
            now = loads.read(system, job.catalog)
            report(_total(work.done, [(part, now.get(key, part.done)) for key, part in before.items()]))
            if unfinished:
                with suppress(TimeoutError), dask.as_current():
                    wait(running, timeout=POLL)
        return _total(work.done, [(part, future.result()) for part, future in zip(work.parts, running, strict=True)])


@contextmanager
def _cluster(settings: Settings, processes: int) -> Iterator[Client]:
    """The instance's Dask cluster if it answers, else one of our own."""
    try:
        dask = Client(settings.dask.address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError:
        with (
            LocalCluster(
                n_workers=processes,
                threads_per_worker=1,
                dashboard_address=":0",
                scheduler_kwargs={"dashboard": False},
                env=ARROW_MEMORY,
            ) as local,
            Client(local, set_as_default=False) as dask,
        ):
            yield dask
        return
    with dask:
        dask.wait_for_workers(1, timeout=PATIENCE)
        yield dask


def _total(done: Progress, parts: Sequence[tuple[Part, Progress]]) -> Progress:
    for part, now in parts:
        done = _sum(done, part, now)
    return done


def _sum(total: Progress, part: Part, now: Progress) -> Progress:
    before = part.done
    return Progress(
        total.rows + now.rows - before.rows,
        total.new + now.new - before.new,
        total.present + now.present - before.present,
        total.left_out + now.left_out - before.left_out,
        total.rejected + now.rejected - before.rejected,
        total.finished and now.finished,
    )


def _look_up(data: Database[Document], catalog: str | None) -> LookUp | None:
    if catalog is None:
        return None
    place = "coordinates.radec_geojson.coordinates"

    def look_up(ids: list[object]) -> dict[object, tuple[float, float]]:
        found = data[catalog].find({"_id": {"$in": ids}, place: {"$exists": True}}, {place: 1})
        pairs = ((one["_id"], one["coordinates"]["radec_geojson"]["coordinates"]) for one in found)
        return {_id: (longitude + 180.0, latitude) for _id, (longitude, latitude) in pairs}

    return look_up


def _reject(path: Path, source: Source, rejected: list[Rejected]) -> None:
    """Add rows to the file of rejected ones, in one write, so that processes may share it."""
    if rejected:
        lines: list[dict[str, Any]] = [
            {"file": source.key, "row": row, "reason": reason, "values": values} for row, reason, values in rejected
        ]
        with path.open("ab", buffering=0) as file:
            file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
