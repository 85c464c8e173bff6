#!/usr/bin/env python3
"""How the cost of an alert depends on partitions, workers, what the archive holds, and filters.

Each value of each of them gets a drain of its own, in turn with drains of the same baseline (4 partitions, 2 workers,
an empty archive, 25 filters); what is printed is the ratio to the baseline drains before and after it, so that a noisy
machine does less harm. Everything else is the workload of ``throughput.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import throughput, workload
from kowalski.testing import services

PARTITIONS, WORKERS, FILTERS = (1, 2, 8), (1, 4), (1, 10, 50, 100)
BASE_PARTITIONS, BASE_WORKERS, BASE_FILTERS = 4, 2, 25
QUANTITIES = ("partitions", "filters", "archive", "workers")
RELOAD_SECONDS = 2


@dataclass(slots=True)
class Row:
    """What one value of one quantity costs, in CPU-ms per alert, beside the baseline around it."""

    quantity: str
    value: int
    cost: float
    baseline: float


class Scaling:
    """Drains one after the other, each on a night of its own."""

    def __init__(self, benchmark: throughput.Benchmark, servers: services.Servers, n: int) -> None:
        self._benchmark, self._servers, self._n = benchmark, servers, n
        self._night = date(2023, 1, 1)
        self.rows: list[Row] = []

    def compare(self, quantity: str, values: tuple[int, ...], drain: Callable[[int], float], baseline: int) -> None:
        """Measure each value between two drains of the baseline."""
        before = drain(baseline)
        for value in values:
            cost = drain(value)
            after = drain(baseline)
            self.rows.append(Row(quantity, value, cost, (before + after) / 2))
            print(f"{quantity} {value}: {cost:.2f} ms; {baseline}: {before:.2f} and {after:.2f} ms", flush=True)
            before = after

    def drain(self, partitions: int = BASE_PARTITIONS, *, keep: bool = False) -> float:
        """Drain a new topic; gives CPU-ms per alert."""
        self._night += timedelta(days=1)
        self._benchmark.options.partitions = partitions
        topic = self._benchmark.survey.topic_of(self._night)
        return self._benchmark.drain(topic, self._n, keep=keep).milliseconds

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Run broker and Dask with so many workers, warmed up."""
        self._benchmark.options.workers = count
        with self._benchmark.running(self._servers):
            self.drain()
            yield

    def with_workers(self, count: int) -> float:
        """Drain with so many workers."""
        with self.workers(count):
            return self.drain()

    def with_filters(self, count: int) -> float:
        """Drain with so many active filters."""
        benchmark = self._benchmark
        workload.load_filters(benchmark.system, benchmark.settings, benchmark.survey, count)
        self.drain()  # by its end the workers know them
        return self.drain()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = throughput.parser(__doc__)
    parser.add_argument("--archive", type=int, nargs="*", default=[5000, 50_000], help="alerts the archive holds")
    parser.add_argument("--of", nargs="+", choices=QUANTITIES, default=QUANTITIES, help="of what (default: all four)")
    parser.set_defaults(n=2000, workers=BASE_WORKERS, partitions=BASE_PARTITIONS)
    return throughput.checked(parser.parse_args())


def main() -> None:
    """Measure everything and print one table."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = throughput.instance(options, Path(folder) / "run")
        settings.filters.reload_seconds = RELOAD_SECONDS
        with services.running(settings, mongod=True, kafka=True) as servers:
            benchmark = throughput.Benchmark(options, settings)
            benchmark.load()
            scaling = Scaling(benchmark, servers, options.n)
            with scaling.workers(BASE_WORKERS):
                if "partitions" in options.of:
                    scaling.compare("partitions", PARTITIONS, scaling.drain, BASE_PARTITIONS)
                if "filters" in options.of:
                    scaling.compare("filters", FILTERS, scaling.with_filters, BASE_FILTERS)
                if "archive" in options.of:
                    fill(benchmark, scaling, options.archive)
            if "workers" in options.of:
                scaling.compare("workers", WORKERS, scaling.with_workers, BASE_WORKERS)
    show(scaling.rows)


def fill(benchmark: throughput.Benchmark, scaling: Scaling, sizes: list[int]) -> None:
    """Measure with archives that hold more and more other alerts, each between two drains with none."""
    for size in sizes:
        held = workload.make_alerts(benchmark.survey, benchmark.options.cache, size, seed=2)
        before = scaling.drain()
        benchmark.empty()
        benchmark.store(held, size)
        cost = scaling.drain(keep=True)
        benchmark.empty()
        after = scaling.drain()
        scaling.rows.append(Row("alerts in the archive", size, cost, (before + after) / 2))
        print(f"{size} alerts in the archive: {cost:.2f} ms; none: {before:.2f} and {after:.2f} ms", flush=True)


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table("quantity", "value", "CPU-ms per alert", "baseline", "ratio")
    for row in rows:
        table.add_row(
            row.quantity, f"{row.value:,}", f"{row.cost:.2f}", f"{row.baseline:.2f}", f"{row.cost / row.baseline:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
