#!/usr/bin/env python3
"""Latency and memory when alerts come as telescopes send them: at a pace, and thousands at once.

First the drain rate is measured. Then alerts come at a part of that rate, and the latency from Kafka's timestamp to the
outbox is printed. Then a visit of Rubin's size comes all at once while the memory of broker, workers and scheduler is
watched, and after it small visits, whose latency shows whether the large one still stands in their way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting, throughput
from kowalski.testing import services

PACE = 0.5
"""Part of the drain rate at which alerts come."""


class Memory:
    """Watches the resident memory of processes, in MB, while something else happens."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._stop = threading.Event()
        self.samples: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self.samples.append(self.now())

    def now(self) -> float:
        """What all of them take now, with their children."""
        families = ([process, *process.children(recursive=True)] for process in self._processes)
        return sum(member.memory_info().rss for family in families for member in family) / 1e6


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = throughput.parser(__doc__)
    parser.add_argument("--visit", type=int, default=10_000, help="alerts of the large visit (default: 10000)")
    return throughput.checked(parser.parse_args())


def main() -> None:
    """Run all three parts."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = throughput.instance(options, Path(folder) / "run")
        with services.running(settings, mongod=True, kafka=True) as servers:
            benchmark = throughput.Benchmark(options, settings)
            benchmark.load()
            with benchmark.running(servers):
                measure(benchmark, options)


def measure(benchmark: throughput.Benchmark, options: argparse.Namespace) -> None:
    """Warm up, then measure and print."""
    night = benchmark.survey.topic_of
    benchmark.drain(night(date(2023, 1, 1)), throughput.WARM_UP)
    drain = benchmark.drain(night(date(2023, 1, 2)), options.n)
    rate = drain.alerts / drain.seconds
    print(f"drain rate: {rate:.0f} alerts/s; calibration loop: {accounting.calibrate():.2f} CPU-s", flush=True)

    benchmark.empty()
    seconds = benchmark.paced(night(date(2023, 1, 3)), options.n, PACE * rate)
    print(f"{PACE * rate:.0f} alerts/s: latency {throughput.latencies(seconds)}", flush=True)

    ours = [pid for name, pid in benchmark.processes.items() if name not in ("kafka", "mongod")]
    steady = Memory(ours).now()
    benchmark.empty()
    alerts, benchmark.alerts = benchmark.alerts, benchmark.more(options.visit)
    with Memory(ours) as memory:
        start = time.monotonic()
        benchmark.paced(night(date(2023, 1, 4)), options.visit, 1e9)
        taken = time.monotonic() - start
    print(
        f"a visit of {options.visit} alerts at once: {options.visit / taken:.0f} alerts/s with sending them", flush=True
    )
    print(f"memory: {steady:.0f} MB before, {max(memory.samples):.0f} MB at most ({max(memory.samples) / steady:.2f})")
    benchmark.alerts = alerts
    benchmark.empty()
    seconds = benchmark.paced(night(date(2023, 1, 5)), options.n, PACE * rate)
    print(f"after it, {PACE * rate:.0f} alerts/s: latency {throughput.latencies(seconds)}")


if __name__ == "__main__":
    main()
