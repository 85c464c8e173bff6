#!/usr/bin/env python3
"""Whether one survey's trouble holds up another: latency of several surveys while one of them is in trouble.

Alerts of all surveys come at a part of the drain rate, which is measured first. Each trouble comes alone, while alerts
flow, to the first survey named: a filter that always hits its time limit, a catalog whose index is gone, a
SkyPortal that is down, a partition of poison. Printed per trouble and survey: how long the alerts took from Kafka's
timestamp to the outbox, and what became of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaException, Producer
from pymongo import InsertOne

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting, throughput, workload
from kowalski.archive import client as archive
from kowalski.archive import filters, names, reports
from kowalski.broker import stream
from kowalski.broker.lag import consumer_lag
from kowalski.config import Settings
from kowalski.config.settings import CrossMatch
from kowalski.ml import ready
from kowalski.surveys import get
from kowalski.surveys.base import Survey
from kowalski.testing import services
from kowalski.testing.skyportal.process import Standin

PACE = 0.3
"""Part of the drain rate at which the alerts of all surveys come, together."""
GOAL_SECONDS = 3.0
"""What the slowest per cent of the other surveys' alerts may take."""
CATALOG = "Catalog_that_loses_its_index"
GROUP, TRACER, SICK_FILTER = 2, 9001, 9100
"""Numbers of filters: those by which latency is seen, one per survey, and the one that takes too long."""
PATIENCE = 240.0
CALM_SECONDS = 5.0
"""How long alerts flow before there is trouble."""
TRIES, STILL_SECONDS = 4, 1.0
"""How often a measurement is made at most, while something else keeps the machine from running for so long."""
_EPOCH = datetime(1970, 1, 1)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = throughput.parser(__doc__)
    parser.add_argument("--surveys", nargs="+", default=["ZTF", "LSST", "WNTR"], help="the first gets the troubles")
    parser.add_argument("--rate", type=float, help="alerts per second, all surveys (default: 30 %% of the drain rate)")
    parser.add_argument("--only", nargs="+", metavar="TROUBLE", choices=tuple(TROUBLES), help="only these troubles")
    parser.set_defaults(n=1000, rows=50_000)
    return throughput.checked(parser.parse_args())


@dataclass
class House:
    """The instance: several surveys' brokers on common workers, and a courier."""

    options: argparse.Namespace
    settings: Settings
    surveys: list[Survey]
    portal: Standin
    alerts: dict[str, Path]

    def __post_init__(self) -> None:
        """Connect."""
        connection = archive.connect(self.settings)
        self.data = archive.data_database(connection, self.settings)
        self.system = archive.system_database(connection, self.settings)
        self.brokers: list[services.Process] = []
        self.nights = 0

    @property
    def sick(self) -> Survey:
        """The survey that gets the troubles."""
        return self.surveys[0]

    def load(self) -> None:
        """Fill catalogs and filters, convert the models."""
        if self.options.rows:
            print(f"catalogs: 4 x {self.options.rows:,} rows, and one of {ROWS:,} of {self.sick.name}", flush=True)
            around = [
                place for one in self.surveys for place in workload.positions(self.alerts[one.name], one, self.settings)
            ]
            workload.load_catalogs(self.data, around, self.options.rows, cells=True)
        workload.load_filters(self.system, self.settings, self.sick, self.options.filters)
        for number, survey in enumerate(self.surveys):
            self.add_filter(survey, TRACER + number, tracer())
        rng, catalog = np.random.default_rng(5), self.data[CATALOG]
        places = np.column_stack((rng.uniform(-180, 180, ROWS), np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS)))))
        for start in range(0, ROWS, 10_000):
            rows = enumerate(places[start : start + 10_000].tolist(), start)
            catalog.bulk_write([InsertOne({"_id": i, "coordinates": {"radec_geojson": _point(at)}}) for i, at in rows])
        self.index_catalog()
        ready.ensure_ready(self.settings, lambda *_: None)

    def index_catalog(self) -> None:
        """Give the catalog its index."""
        self.data[CATALOG].create_index([("coordinates.radec_geojson", "2dsphere"), ("_id", 1)])

    def add_filter(self, survey: Survey, number: int, stages: Sequence[Mapping[str, Any]]) -> None:
        """Store an active filter."""
        now, version = datetime.now(UTC), filters.new_version(json.dumps(stages))
        document = {
            "filter_id": number, "group_id": GROUP, "catalog": survey.alerts, "permissions": [1, 2, 3],
            "active": True, "autosave": False, "update_annotations": False, "auto_followup": {}, "fv": [version],
            "active_fid": version["fid"], "created_at": now, "last_modified": now,
        }  # fmt: skip
        self.system[names.FILTERS].insert_one(document)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run workers, brokers and courier."""
        logs = self.settings.path.run / "logs"
        with contextlib.ExitStack() as stack:
            stack.enter_context(services.dask_cluster(self.settings, self.options.workers))
            wanted = {f"broker-{survey.name}": ("broker", "--survey", survey.name) for survey in self.surveys}
            for name, program in (wanted | {"courier": ("courier",)}).items():
                command = [sys.executable, "-m", "kowalski.cli", "run", *program]
                process = services.Process(name, command, services.environment(self.settings), logs / f"{name}.log")
                process.start()
                stack.callback(process.stop)
                if name != "courier":
                    self.brokers.append(process)
            yield

    def next_night(self) -> dict[str, str]:
        """Forget what is stored, and make a topic for each survey."""
        for survey in self.surveys:
            self.data[survey.alerts].delete_many({})
            self.data[survey.objects].delete_many({})
        for name in (names.OUTBOX, names.DEAD_LETTERS):
            self.system[name].delete_many({})
        self.nights += 1
        topics = {one.name: one.topic_of(date(2023, 1, 1) + timedelta(days=self.nights)) for one in self.surveys}
        for topic in topics.values():
            stream.ensure_topic(self.settings, topic, self.options.partitions)
        self.wait(lambda: set(topics.values()) <= self._read(), "the brokers don't read the new topics")
        return topics

    def _read(self) -> set[str]:
        return {topic for report in reports.read(self.system, "broker") for topic in report.get("topics", ())}

    def send(self, topics: Mapping[str, str], rate: float) -> None:
        """Send the alerts of all surveys at the same time, each at ``rate``."""
        threads = [
            threading.Thread(target=stream.send, args=(self.settings, topic, self.packets(survey), rate))
            for survey, topic in topics.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def packets(self, survey: str) -> list[Path]:
        """List the alerts of a survey."""
        return stream.find_packets(self.alerts[survey], self.options.n)

    def lag(self, topics: Mapping[str, str]) -> int:
        """Count the messages that are not done."""
        try:
            return sum(consumer_lag(self.settings, get(survey)).get(topic, 0) for survey, topic in topics.items())
        except KafkaException:  # it does not answer in time on a busy machine
            return 1

    def drain_rate(self) -> float:
        """See how fast alerts of all surveys go that are there at once, per second."""
        topics = self.next_night()
        for broker in self.brokers:
            os.kill(broker.pid, signal.SIGSTOP)
        try:
            self.send(topics, 1e6)
        finally:
            for broker in self.brokers:
                os.kill(broker.pid, signal.SIGCONT)
        start = time.monotonic()
        self.wait(lambda: self.lag(topics) == 0, "the drain does not end")
        return self.options.n * len(self.surveys) / (time.monotonic() - start)

    def wait(self, condition: Callable[[], bool], trouble: str) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{trouble}; logs are in {self.settings.path.run / 'logs'}")
            time.sleep(0.25)


ROWS = 200_000


def tracer() -> list[dict[str, Any]]:
    """Write the filter that passes one alert in ten, whatever candids look like."""
    chosen = {"$in": [{"$mod": [{"$toHashedIndexKey": "$candid"}, 10]}, [5, -5]]}
    return [{"$match": {"$expr": chosen}}, {"$project": {"annotations": {"at": "$candidate.jd"}}}]


def _point(at: Sequence[float]) -> dict[str, Any]:
    return {"type": "Point", "coordinates": list(at)}


@contextlib.contextmanager
def nothing(house: House, topic: str) -> Iterator[None]:
    """No trouble."""
    yield


@contextlib.contextmanager
def slow_filter(house: House, topic: str) -> Iterator[None]:
    """Every alert takes the filter seconds."""
    numbers = {"$range": [0, 3_000_000]}
    added = {"$reduce": {"input": numbers, "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}
    house.add_filter(house.sick, SICK_FILTER, [{"$match": {"$expr": {"$gt": [added, 0]}}}])
    yield
    house.system[names.FILTERS].delete_one({"filter_id": SICK_FILTER})


@contextlib.contextmanager
def no_index(house: House, topic: str) -> Iterator[None]:
    """Workers have known the catalog with its index."""
    house.data[CATALOG].drop_indexes()
    yield
    house.index_catalog()


@contextlib.contextmanager
def skyportal_down(house: House, topic: str) -> Iterator[None]:
    """SkyPortal refuses every call."""
    house.portal.fail({"status": 503})
    yield
    house.portal.fail()


@contextlib.contextmanager
def poison(house: House, topic: str) -> Iterator[None]:
    """As many messages as there are alerts, all on one partition, half of them alerts cut in two."""
    producer = Producer({"bootstrap.servers": house.settings.kafka.servers})
    for number, path in enumerate(house.packets(house.sick.name)):
        packet = path.read_bytes()
        producer.produce(topic, packet[: len(packet) // 2] if number % 2 else b"poison %d" % number, partition=0)
        producer.poll(0)
    if producer.flush(PATIENCE):
        raise SystemExit("Kafka did not take the poison")
    yield


Trouble = Callable[[House, str], contextlib.AbstractContextManager[None]]
TROUBLES: dict[str, Trouble] = {
    "none": nothing,
    "filter at its time limit": slow_filter,
    "catalog without index": no_index,
    "SkyPortal down": skyportal_down,
    "partition of poison": poison,
}


class Pulse:
    """Notices when this process, and so probably all of the machine, did not run for a while."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(0.1):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


def happen(house: House, name: str, rate: float) -> None:
    """Let one trouble happen; once more if the machine stood still meanwhile, which no alert can make up for."""
    for _ in range(TRIES):
        topics = house.next_night()
        with Pulse() as pulse, contextlib.ExitStack() as trouble:
            sending = threading.Thread(target=house.send, args=(topics, rate))
            sending.start()
            time.sleep(CALM_SECONDS)
            trouble.enter_context(TROUBLES[name](house, topics[house.sick.name]))
            sending.join()
            house.wait(lambda: house.lag(topics) == 0, f"{name}: alerts are left in Kafka")  # noqa: B023
        if pulse.longest < STILL_SECONDS:
            return
        print(f"(the machine stood still for {pulse.longest:.1f} s)", file=sys.stderr, flush=True)


def measure(house: House, name: str, rate: float) -> bool:
    """Let one trouble happen, and print a line per survey; whether the others did not suffer."""
    happen(house, name, rate)
    good = True
    for number, survey in enumerate(house.surveys):
        passed = {f"passes.{GROUP}:{TRACER + number}": {"$exists": True}, "_id.survey": survey.name}
        found = house.system[names.OUTBOX].find(passed, {"kafka_timestamp": 1, "created_at": 1})
        took = [(one["created_at"] - _EPOCH).total_seconds() - one["kafka_timestamp"] / 1000.0 for one in found]
        stored = house.data[survey.alerts].count_documents({})
        if len(took) < 2:
            raise SystemExit(f"{name}: only {len(took)} of {stored} alerts of {survey.name} are in the outbox")
        cuts = statistics.quantiles(took, n=100)
        refused = house.system[names.DEAD_LETTERS].count_documents({"survey": survey.name})
        suffers = survey is not house.sick and (cuts[98] >= GOAL_SECONDS or refused > 0 or stored < house.options.n)
        good &= not suffers
        role = "in trouble" if survey is house.sick and name != "none" else "SUFFERS" if suffers else ""
        print(
            f"| {name} | {survey.name} | {stored} | {len(took)} | {cuts[49]:.2f} | {cuts[98]:.2f} | {max(took):.2f} "
            f"| {refused} | {role} |",
            flush=True,
        )
    return good


def main() -> int:
    """Measure all troubles; 1 if another survey suffered."""
    options = arguments()
    surveys = [get(name) for name in options.surveys]
    options.survey = surveys[0].name
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        portal = Standin(folder)
        stack.callback(portal.process.stop, 5.0)
        portal.start()
        settings = instance(options, folder / "run", portal.port)
        alerts = {one.name: workload.make_alerts(one, options.cache, options.n, options.repeats) for one in surveys}
        for one in surveys:
            workload.add_schemas(one, settings)
        stack.enter_context(services.running(settings, mongod=True, kafka=True))
        house = House(options, settings, surveys, portal, alerts)
        house.load()
        with house.running():
            return measure_all(house)


def instance(options: argparse.Namespace, run: Path, portal: int) -> Settings:
    """Settings of the instance: those of the throughput, with a catalog more and a SkyPortal."""
    settings = throughput.instance(options, run)
    matched = CrossMatch(cone_search_radius=2, projection={"_id": 1})
    settings.database.xmatch.setdefault(get(options.survey).name, {})[CATALOG] = matched
    skyportal = {"enabled": True, "host": "127.0.0.1", "port": portal, "token": "a-token", "timeout_seconds": 3.0}
    return settings.model_copy(update={"skyportal": settings.skyportal.model_copy(update=skyportal)})


def measure_all(house: House) -> int:
    """Warm up, then measure and print."""
    options = house.options
    house.drain_rate()
    rate = options.rate
    if rate is None:
        drained = house.drain_rate()
        rate = PACE * drained
        print(f"drain rate: {drained:.0f} alerts/s; calibration loop: {accounting.calibrate():.2f} CPU-s")
    share = rate / len(house.surveys)
    print(f"{rate:.0f} alerts/s, {share:.0f} of each survey; {options.workers} workers\n")
    print("| trouble of the first survey | survey | stored | timed | p50 s | p99 s | worst s | dead letters | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|", flush=True)
    good = [measure(house, name, share) for name in options.only or TROUBLES]
    print("\nno other survey suffers" if all(good) else "\nother surveys SUFFER")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
