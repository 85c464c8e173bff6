#!/usr/bin/env python3
"""What each index of the alert collection costs an insert, in MongoDB's CPU-ms per alert.

For every configured index the same alerts are inserted with that index and with none but ``_id``, in turns, and the
difference of the medians is printed. Take it as a guide to ``database.indexes``: a query that an index serves saves a
scan of the whole collection, an insert pays for it a thousand times a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil

from benchmarks import workload
from kowalski.archive import client as archive
from kowalski.broker.avro import Decoder
from kowalski.config.settings import Index
from kowalski.science import coordinates
from kowalski.surveys import get
from kowalski.testing import services

Documents = list[dict[str, Any]]


def documents(folder: Path) -> Documents:
    """Alerts as they are stored, with a score in the place of each model's."""
    decoder, survey = Decoder(), get("ZTF")
    alerts = [
        survey.shape(record) for path in sorted(folder.rglob("*.avro")) for record in decoder.records(path.read_bytes())
    ]
    places = coordinates.documents(np.array([a.ra for a in alerts]), np.array([a.dec for a in alerts]))
    rng = np.random.default_rng(1)
    return [
        {"_id": a.candid, **a.document, "classifications": {"braai": float(rng.random())}, "coordinates": place}
        for a, place in zip(alerts, places, strict=True)
    ]


class Meter:
    """CPU-ms per alert that one mongod spends on inserts."""

    def __init__(self, collection: Any, process: psutil.Process, found: Documents) -> None:
        self._collection, self._process, self._found = collection, process, found

    def __call__(self, indexes: list[Index]) -> float:
        """Insert all documents into a new collection with ``indexes``."""
        self._collection.drop()
        for index in indexes:
            self._collection.create_index(list(index.fields), name=index.name, unique=index.unique)
        before = self._cpu()
        for begin in range(0, len(self._found), 128):
            self._collection.insert_many(self._found[begin : begin + 128], ordered=False)
        return 1000.0 * (self._cpu() - before) / len(self._found)

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="alerts per insertion (default: 2000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kowalski-benchmark")
    options = parser.parse_args()
    found = documents(workload.make_alerts(get("ZTF"), options.cache, options.n))
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = services.new_settings(Path(folder) / "run", database={"cache_gb": 2.0})
        with services.running(settings, mongod=True) as servers:
            assert servers.mongod is not None
            collection = archive.data_database(archive.connect(settings), settings)["ZTF_alerts"]
            meter = Meter(collection, psutil.Process(servers.mongod.pid), found)
            report(meter, settings.database.indexes["ZTF_alerts"], options.rounds)


def report(meter: Meter, indexes: list[Index], rounds: int) -> None:
    """Measure each index against none, in turns, then all of them together."""
    meter([])  # warm-up
    bare: list[float] = []
    cost: dict[str, list[float]] = {index.name: [] for index in indexes}
    together: list[float] = []
    for _ in range(rounds):
        bare.append(meter([]))
        for index in indexes:
            cost[index.name].append(meter([index]))
        together.append(meter(indexes))
    base = statistics.median(bare)
    print(f"{'none but _id':<55} {base:6.3f} ms of mongod's CPU per alert")
    for name, values in sorted(cost.items(), key=lambda item: -statistics.median(item[1])):
        print(f"{name:<55} {statistics.median(values) - base:+6.3f}")
    print(f"{'all ' + str(len(indexes)):<55} {statistics.median(together) - base:+6.3f}")


if __name__ == "__main__":
    main()
