#!/usr/bin/env python3
"""How fast ``ingest`` loads a catalog, beside MongoDB with rows that are BSON already, and beside plain Python.

The same rows are stored in turns, `--rounds` times: as BSON that was encoded before, by two processes (the most that
MongoDB takes on this machine); by the loader, on a Dask cluster of two workers; and by ``csv.DictReader`` and
``insert_many``. Ratios are the medians over the turns. Beside the rates stands the CPU time per row, of MongoDB and of
everything else, which depends less on what else the machine does.

With ``--large`` only the command itself is run, on so many rows as Parquet, with two processes of its own; printed are
the memory of all of them, the rate and the seconds that the indexes take.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from bson.raw_bson import RawBSONDocument

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting
from kowalski.archive import client
from kowalski.archive.inventory import STANDARD_ORDERS
from kowalski.config import Settings
from kowalski.ingesters import loading, readers, sources, transform
from kowalski.ingesters.columns import Columns
from kowalski.ingesters.tables import Options
from kowalski.testing import services

PROCESSES = 2
PIECE = 250_000
"""Rows that are made at a time."""
LOOK = 0.5
"""Seconds between two looks at the memory."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000, help="rows of each turn (default: 400000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="what the loader reads")
    parser.add_argument("--large", type=int, default=0, metavar="ROWS", help="run the command on so many rows instead")
    parser.add_argument("--cache", type=float, default=1.0, help="MongoDB's cache in GB (default: 1)")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    print(f"{accounting.machine()}; calibration loop: {accounting.calibrate():.2f} CPU-s", flush=True)
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as name:
        folder = Path(name)
        settings = services.new_settings(folder / "run", database={"cache_gb": options.cache})
        with services.running(settings, mongod=True) as servers:
            assert servers.mongod is not None
            if options.large:
                large(settings, folder, options.large)
            else:
                turns(settings, folder, options, servers.mongod.pid)


def pieces(rows: int, seed: int) -> Iterator[pa.Table]:
    """Sources all over the sky: a name, a position and seven magnitudes, of which one is often missing."""
    random = np.random.default_rng(seed)
    for start in range(0, rows, PIECE):
        n = min(PIECE, rows - start)
        columns: dict[str, Any] = {"name": [f"J{seed}_{start + i:09d}" for i in range(n)]}
        columns |= {"ra": random.uniform(0.0, 360.0, n), "dec": np.degrees(np.arcsin(random.uniform(-1.0, 1.0, n)))}
        columns |= {f"mag{i}": np.round(random.uniform(10.0, 22.0, n), 4) for i in range(7)}
        columns["mag6"] = pa.array(columns["mag6"], mask=random.random(n) < 0.3)
        yield pa.table(columns)


def write(path: Path, rows: int, seed: int) -> None:
    """Write a file, piece by piece, in the format of its suffix."""
    schema = next(pieces(1, seed)).schema
    kind = pq.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter
    with kind(str(path), schema) as file:
        for piece in pieces(rows, seed):
            file.write_table(piece)


def turns(settings: Settings, folder: Path, options: argparse.Namespace, mongod: int) -> None:
    """Store the same rows in the three ways, in turns."""
    files = {kind: [folder / f"part{number}.{kind}" for number in range(PROCESSES)] for kind in ("csv", "parquet")}
    for paths in files.values():
        for number, path in enumerate(paths):
            write(path, options.rows // PROCESSES, number)
    found = sources.find([str(path) for path in files[options.format]], None, None, folder).files
    encoded = [encode(source, folder) for source in found]
    job = loading.Job("ingest", folder / "rejected", orders=STANDARD_ORDERS)
    with (
        services.dask_cluster(settings, workers=PROCESSES) as cluster,
        inserters(settings, encoded) as (insert, pids),
        client.connect(settings) as connection,
    ):
        data = client.data_database(connection, settings)
        others = [*pids, *(process.pid for process in (cluster.scheduler, *cluster.workers))]
        ways: dict[str, Callable[[], object]] = {
            "bson": insert,
            "ingest": lambda: loading.run(settings, job, loading.plan(settings, job, found), PROCESSES),
            "plain": lambda: insert_plainly(settings, files["csv"]),
        }
        results: dict[str, list[Result]] = {way: [] for way in ways}
        for turn in range(-1, options.rounds):  # the first warms up
            for way, store in ways.items():
                before, begun = cpu(mongod, others), time.perf_counter()
                store()
                seconds, after = time.perf_counter() - begun, cpu(mongod, others)
                stored = data[way].count_documents({})
                if stored != options.rows // PROCESSES * PROCESSES:
                    raise SystemExit(f"{way}: {stored} rows are there")
                spent = [1e6 * (now - then) / stored for now, then in zip(after, before, strict=True)]
                if turn >= 0:
                    results[way].append(Result(stored / seconds, *spent))
                data.drop_collection(way)
    report(results)


class Result(NamedTuple):
    """Of one turn: rows per second, and CPU-us per row of MongoDB and of everything else."""

    rate: float
    mongod: float
    clients: float


def cpu(mongod: int, others: list[int]) -> tuple[float, float]:
    """CPU seconds until now of MongoDB, and of this process and others."""
    spent = accounting.usage({str(pid): pid for pid in (mongod, *others)})
    return spent[str(mongod)].cpu, sum(os.times()[:2]) + sum(spent[str(pid)].cpu for pid in others)


def report(results: dict[str, list[Result]]) -> None:
    """Print the medians, and what they were made of."""
    for way, turns in results.items():
        rate, mongod, clients = (statistics.median(values) for values in zip(*turns, strict=True))
        each = ", ".join(f"{turn.rate:,.0f}" for turn in turns)
        print(f"{way:8}{rate:10,.0f} rows/s; CPU-us per row: {mongod:5.1f} mongod, {clients:5.1f} clients   ({each})")
    for way in ("bson", "plain"):
        ratios = [ours.rate / other.rate for ours, other in zip(results["ingest"], results[way], strict=True)]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"ingest / {way:8}{statistics.median(ratios):.2f}   ({shown})")


def encode(source: sources.Source, folder: Path) -> Path:
    """Write the documents of a file as BSON, one behind the other."""
    target = folder / f"{source.key}.bson"
    with readers.opened(source, Options()) as reader, target.open("wb") as out:
        resolved = Columns().resolve(reader.layout)
        transformer = transform.Transformer(Columns(), resolved, STANDARD_ORDERS, transform.file_prefix(source.key))
        for batch in reader.read(0, None, loading.BATCH):
            out.write(b"".join(transformer.make(batch).documents))
    return target


@contextmanager
def inserters(settings: Settings, paths: list[Path]) -> Iterator[tuple[Callable[[], None], list[int]]]:
    """Run a process for each file of BSON; give what has all of them insert theirs, and their pids."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(paths) + 1)
    workers = [context.Process(target=_insert, args=(settings, path, barrier), daemon=True) for path in paths]
    for worker in workers:
        worker.start()

    def insert() -> None:
        barrier.wait()  # they begin
        barrier.wait()  # all are done

    try:
        yield insert, [worker.pid or 0 for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _insert(settings: Settings, path: Path, barrier: Barrier) -> None:
    whole, documents, at = path.read_bytes(), [], 0
    while at < len(whole):
        size = int.from_bytes(whole[at : at + 4], "little")
        documents.append(RawBSONDocument(whole[at : at + size]))
        at += size
    with client.connect(settings) as connection:
        collection: Any = client.data_database(connection, settings)["bson"]
        while True:
            barrier.wait()
            for start in range(0, len(documents), loading.BATCH):
                collection.insert_many(documents[start : start + loading.BATCH], ordered=False)
            barrier.wait()


def insert_plainly(settings: Settings, paths: list[Path]) -> None:
    """Insert rows as the standard library reads them, numbers as numbers; no coordinates are added."""
    with client.connect(settings) as connection:
        collection = client.data_database(connection, settings)["plain"]
        for path in paths:
            with path.open(newline="") as file:
                batch: list[dict[str, Any]] = []
                for row in csv.DictReader(file):
                    batch.append({name: _value(name, text) for name, text in row.items() if text})
                    if len(batch) == loading.BATCH:
                        collection.insert_many(batch, ordered=False)
                        batch = []
                if batch:
                    collection.insert_many(batch, ordered=False)


def _value(name: str, text: str) -> str | float:
    return text if name == "name" else float(text)


def large(settings: Settings, folder: Path, rows: int) -> None:
    """Run the command on many rows, and watch how much memory it takes."""
    path = folder / "large.parquet"
    write(path, rows, 0)
    print(f"{rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB of Parquet", flush=True)
    argv = [sys.executable, "-m", "kowalski.cli", "ingest", "large", str(path), "--processes", str(PROCESSES)]
    command = services.Process("ingest", argv, services.environment(settings) | {"COLUMNS": "200"}, folder / "log")
    peaks: dict[int, float] = {}
    together, begun = 0.0, time.perf_counter()
    command.start()
    try:
        family = psutil.Process(command.pid)
        while command.is_running:
            now = accounting.resident(family)
            together = max(together, sum(used.share for used in now.values()))
            peaks |= {pid: max(used.whole, peaks.get(pid, 0.0)) for pid, used in now.items()}
            time.sleep(LOOK)
        seconds = time.perf_counter() - begun
    finally:
        command.stop()
    print("\n".join(line for line in command.log.read_text().splitlines() if line.startswith(("large:", "indexes:"))))
    with client.connect(settings) as connection:
        stored = client.data_database(connection, settings)["large"].count_documents({})
    if stored != rows:
        raise SystemExit(f"{stored:,} rows are there")
    each = ", ".join(f"{used:.0f}" for used in sorted(peaks.values(), reverse=True))
    print(
        f"{seconds:.0f} s in all; its processes took {together:.0f} MB together at most, what they share counted once"
    )
    print(f"resident memory of each at most, with what is shared: {each} MB")


if __name__ == "__main__":
    main()
