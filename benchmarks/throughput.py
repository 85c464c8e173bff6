#!/usr/bin/env python3
"""How many alerts a second Kowalski processes, at what cost in CPU, and how long an alert takes.

Starts its own MongoDB, Kafka, Dask workers and broker on free ports, fills Kafka, lets the broker drain it and prints
alerts per second, ``CPU-ms per alert: X`` over all processes, split by process and by stage, and peak memory. With
``--rate`` alerts come at that pace instead, and the latency from Kafka's timestamp to the outbox is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting, workload
from kowalski.archive import client as archive
from kowalski.archive import names, reports
from kowalski.broker import stream
from kowalski.broker.lag import consumer_lag
from kowalski.config import Settings
from kowalski.ml import ready
from kowalski.surveys import get
from kowalski.testing import services

SIX = ("braai", "acai_h", "acai_v", "acai_o", "acai_n", "acai_b")
WARM_UP = 640
"""Alerts that are processed before anything is measured: MongoDB's and Java's caches fill."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One measured drain of a topic."""

    alerts: int
    seconds: float
    cpu: dict[str, float]
    stages: dict[str, dict[str, float]]

    @property
    def milliseconds(self) -> float:
        """CPU-ms per alert over all processes."""
        return 1000.0 * sum(self.cpu.values()) / self.alerts

    def figures(self, survey: str, peaks: Mapping[str, accounting.Usage]) -> dict[str, Any]:
        """Everything that was measured: milliseconds per alert, megabytes of peak RSS, versions, kind of machine."""
        per_alert = 1000.0 / self.alerts
        processes: dict[str, float] = {}
        for name, seconds in self.cpu.items():
            together = "workers" if name.startswith("worker-") else name
            processes[together] = processes.get(together, 0.0) + seconds * per_alert
        return {
            "date": date.today().isoformat(),
            "survey": survey,
            "alerts": self.alerts,
            "alerts_per_second": round(self.alerts / self.seconds),
            "calibration": round(accounting.calibrate(), 2),
            "machine": accounting.machine(),
            "versions": accounting.versions(),
            "processes": {name: round(ms, 3) for name, ms in processes.items()},
            "stages": {
                stage: {kind: round(seconds * per_alert, 3) for kind, seconds in times.items()}
                for stage, times in self.stages.items()
            },
            "rss": {name: round(used.rss) for name, used in peaks.items()},
        }


def parser(description: str | None) -> argparse.ArgumentParser:
    """Build the options that say what is measured."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", default="ZTF", help="whose alerts (default: ZTF)")
    parser.add_argument("--repeats", type=float, default=0.3, help="part of the alerts of an object seen before")
    parser.add_argument("--bare", action="store_true", help="no catalogs, no filters, no models")
    parser.add_argument("--n", type=int, default=5000, help="alerts in one drain (default: 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="drains; the cheapest one counts (default: 3)")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of each of the four catalogs")
    parser.add_argument("--filters", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--bts", action="store_true", help="score with BTSbot, too")
    parser.add_argument("--no-models", action="store_true", help="no scores at all")
    parser.add_argument("--plain-catalogs", action="store_true", help="catalogs without HEALPix cells")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kowalski-benchmark")
    return parser


def arguments() -> argparse.Namespace:
    """Read the command line."""
    known = parser(__doc__)
    known.add_argument("--rate", type=float, help="pace the alerts at so many a second and print latencies")
    known.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the best drain there, too")
    return checked(known.parse_args())


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """Spell out what some options mean for others."""
    if options.bare:
        options.rows = options.filters = 0
        options.no_models = True
    return options


def instance(options: argparse.Namespace, run: Path) -> Settings:
    """Settings of the measured instance."""
    # librdkafka tells of each of its own retries; what fails in the end is raised.
    logging.getLogger("kowalski.kafka").setLevel(logging.CRITICAL)
    wanted: dict[str, Any] = {} if options.batch_size is None else {"broker": {"batch_size": options.batch_size}}
    data = os.environ.get("KOWALSKI_SAMPLE_DATA")
    wanted["path"] = {"run": str(run), "data": str(run / "data")} | ({"models": f"{data}/models"} if data else {})
    wanted["kafka"] = {"heap": "512m", "partitions": options.partitions}
    wanted["dask"] = {"n_workers": options.workers}
    settings = services.new_settings(run, database={"cache_gb": 4.0}, **wanted)
    survey = get(options.survey).name
    models = settings.ml.of(survey).models
    for name in list(models):
        if options.no_models or (name not in SIX and not options.bts):
            del models[name]
    matched = settings.database.xmatch.get(survey, {})
    settings.database.xmatch[survey] = {
        name: declared for name, declared in matched.items() if options.rows and name in workload.CATALOGS
    }
    return settings


class Benchmark:
    """A running instance with its workload loaded."""

    def __init__(self, options: argparse.Namespace, settings: Settings) -> None:
        self.options = options
        self.settings = settings
        self.survey = get(options.survey)
        self.alerts = workload.make_alerts(self.survey, options.cache, options.n, options.repeats)
        workload.add_schemas(self.survey, settings)
        connection = archive.connect(settings)
        self.data = archive.data_database(connection, settings)
        self.system = archive.system_database(connection, settings)
        self.processes: dict[str, int] = {}

    def load(self) -> None:
        """Fill catalogs and filters, convert the models."""
        if self.options.rows:
            print(f"catalogs: 4 x {self.options.rows:,} rows", flush=True)
            around = workload.positions(self.alerts, self.survey, self.settings)
            workload.load_catalogs(self.data, around, self.options.rows, cells=not self.options.plain_catalogs)
        workload.load_filters(self.system, self.settings, self.survey, self.options.filters)
        ready.ensure_ready(self.settings, lambda *_: None)

    @contextlib.contextmanager
    def running(self, servers: services.Servers) -> Iterator[None]:
        """Run the Dask cluster and the broker."""
        with services.dask_cluster(self.settings, self.options.workers) as cluster:
            command = [sys.executable, "-m", "kowalski.cli", "run", "broker", "--survey", self.survey.name]
            log = self.settings.path.run / "logs" / "broker.log"
            broker = services.Process("broker", command, services.environment(self.settings), log)
            broker.start()
            named = {"kafka": servers.kafka, "mongod": servers.mongod, "scheduler": cluster.scheduler, "broker": broker}
            self.processes = {name: process.pid for name, process in named.items() if process is not None}
            self.processes |= {f"worker-{i}": worker.pid for i, worker in enumerate(cluster.workers)}
            try:
                yield
            finally:
                broker.stop()

    def more(self, n: int) -> Path:
        """Make other alerts of the same kind."""
        return workload.make_alerts(self.survey, self.options.cache, n, self.options.repeats, seed=3)

    def empty(self) -> None:
        """Take away what earlier drains have stored."""
        for name in (self.survey.alerts, self.survey.objects):
            self.data[name].delete_many({})
        self.system[names.OUTBOX].delete_many({})

    def store(self, alerts: Path, n: int) -> None:
        """Let the broker store other alerts, of a night of their own."""
        topic = self.survey.topic_of(date(2022, 1, 1) + timedelta(days=n % 365))
        stream.ensure_topic(self.settings, topic, self.options.partitions)
        self._await(lambda: topic in self._report().get("topics", ()), 60)
        held = self.data[self.survey.alerts].estimated_document_count()
        stream.send(self.settings, topic, stream.find_packets(alerts, n))
        self._await(lambda: self.data[self.survey.alerts].estimated_document_count() >= held + n, 60 + n)
        self._await(lambda: self._lag(topic) == 0, 60)

    def drain(self, topic: str, n: int, *, keep: bool = False) -> Drain:
        """Put ``n`` alerts onto a new topic, then let the broker take them; only the latter is measured.

        The archive is emptied before, unless what it holds is to be kept.
        """
        if not keep:
            self.empty()
        held = self.data[self.survey.alerts].estimated_document_count()
        stream.ensure_topic(self.settings, topic, self.options.partitions)
        self._await(lambda: topic in self._report().get("topics", ()), 60)
        os.kill(self.processes["broker"], signal.SIGSTOP)
        try:
            stream.send(self.settings, topic, stream.find_packets(self.alerts, n))
            report, before = self._report(), accounting.usage(self.processes)
            start = time.monotonic()
        finally:
            os.kill(self.processes["broker"], signal.SIGCONT)
        self._await(lambda: self.data[self.survey.alerts].estimated_document_count() >= held + n, 60 + n)
        self._await(lambda: self._lag(topic) == 0, 60)
        seconds = time.monotonic() - start
        after = accounting.usage(self.processes)
        stages = _difference(report.get("stages", {}), self._settled()["stages"])
        return Drain(n, seconds, accounting.spent(before, after), stages)

    def paced(self, topic: str, n: int, rate: float) -> list[float]:
        """Let alerts come at ``rate`` a second; returns seconds from Kafka's timestamp to the outbox."""
        stream.ensure_topic(self.settings, topic, self.options.partitions)
        self._await(lambda: topic in self._report().get("topics", ()), 60)
        self.system[names.OUTBOX].delete_many({})
        stream.send(self.settings, topic, stream.find_packets(self.alerts, n), rate)
        self._await(lambda: self._lag(topic) == 0, 120)
        found = self.system[names.OUTBOX].find({}, {"kafka_timestamp": 1, "created_at": 1})
        return sorted(
            (each["created_at"] - _EPOCH).total_seconds() - each["kafka_timestamp"] / 1000.0 for each in found
        )

    def _report(self) -> dict[str, Any]:
        return next(iter(reports.read(self.system, "broker")), {})

    def _settled(self) -> dict[str, Any]:
        time.sleep(3.0)  # the broker reports every two seconds
        return self._report()

    def _lag(self, topic: str) -> int:
        return consumer_lag(self.settings, self.survey).get(topic, 0)

    def _await(self, condition: Any, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"gave up after {patience:g} s; logs are in {self.settings.path.run / 'logs'}")
            time.sleep(0.25)


_EPOCH = datetime(1970, 1, 1)


def _difference(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    zero = {"wall": 0.0, "cpu": 0.0}
    return {
        stage: {kind: value - before.get(stage, zero)[kind] for kind, value in times.items()}
        for stage, times in after.items()
    }


def print_drain(drain: Drain, peaks: dict[str, accounting.Usage]) -> None:
    """Print one drain: the sum first, then where it went."""
    print(f"\nalerts/s: {drain.alerts / drain.seconds:.0f}   CPU-ms per alert: {drain.milliseconds:.2f}")
    for name, seconds in sorted(drain.cpu.items(), key=lambda item: -item[1]):
        print(f"  {name:<12} {1000 * seconds / drain.alerts:6.2f} ms   peak RSS {peaks[name].rss:6.0f} MB")
    print("  stages in the workers (CPU-ms, wall-ms per alert):")
    for stage, times in sorted(drain.stages.items(), key=lambda item: -item[1]["cpu"]):
        print(f"    {stage:<12} {1000 * times['cpu'] / drain.alerts:6.3f}  {1000 * times['wall'] / drain.alerts:6.3f}")


def main() -> None:
    """Run the benchmark that the command line asks for."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = instance(options, Path(folder) / "run")
        with services.running(settings, mongod=True, kafka=True) as servers:
            benchmark = Benchmark(options, settings)
            benchmark.load()
            with benchmark.running(servers):
                measure(benchmark, options)


def measure(benchmark: Benchmark, options: argparse.Namespace) -> None:
    """Warm up, then measure and print."""
    kind = "real alerts, cloned" if workload.are_real() else "simulated alerts"
    print(f"{options.n} {kind} of {benchmark.survey.name}, {options.repeats:.0%} of them repeat visits")
    print(f"{options.filters} filters, writes with w: majority, j: true", flush=True)
    night = benchmark.survey.topic_of
    benchmark.drain(night(date(2023, 1, 1)), min(WARM_UP, options.n))
    print(f"calibration loop: {accounting.calibrate():.2f} CPU-s")
    if options.rate:
        paced(benchmark, options, night(date(2023, 1, 2)))
        return
    drains = [benchmark.drain(night(date(2023, 2, day)), options.n) for day in range(1, options.rounds + 1)]
    peaks = accounting.usage(benchmark.processes)
    for drain in drains:
        print_drain(drain, peaks)
    best = min(drains, key=lambda drain: drain.milliseconds)
    ours = sum(used.rss for name, used in peaks.items() if name not in ("kafka", "mongod"))
    print(f"\ncalibration loop: {accounting.calibrate():.2f} CPU-s")
    print(f"best of {len(drains)}: {best.alerts / best.seconds:.0f} alerts/s")
    print(f"CPU-ms per alert: {best.milliseconds:.2f}")
    print(f"peak RSS of broker, workers and scheduler together: {ours:.0f} MB")
    if options.json is not None:
        options.json.write_text(json.dumps(best.figures(benchmark.survey.name, peaks), indent=2) + "\n")


def paced(benchmark: Benchmark, options: argparse.Namespace, topic: str) -> None:
    """Let alerts come at a pace and print how long they take."""
    seconds = benchmark.paced(topic, options.n, options.rate)
    print(f"{options.rate:g} alerts/s: latency {latencies(seconds)} ({len(seconds)} alerts that passed)")


def latencies(seconds: list[float]) -> str:
    """Say the median and the tail of latencies."""
    cuts = statistics.quantiles(seconds, n=100)
    return ", ".join(f"{name} {cuts[index]:.2f} s" for name, index in (("p50", 49), ("p95", 94), ("p99", 98)))


if __name__ == "__main__":
    main()
