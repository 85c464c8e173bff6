"""The broker between a real Kafka and real Dask workers: every message once, whatever stops in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from pymongo import MongoClient

from kowalski.archive import activity, filters, names, reports
from kowalski.archive.client import system_database
from kowalski.broker import stream
from kowalski.broker.consumer import AlertBroker
from kowalski.broker.kafka import client_config, group_id
from kowalski.broker.lag import consumer_lag, topic_pattern
from kowalski.config import Settings
from kowalski.surveys import get
from kowalski.testing import courier, services

Mongo = MongoClient[dict[str, Any]]
SURVEY = get("ZTF")
PATIENCE = 120.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Topics that no other test has, small batches, no models."""
    settings.surveys["ZTF"].topics = f"^t{uuid.uuid4().hex[:8]}_(?P<date>[0-9]{{8}})_programid[123]$"
    settings.broker.batch_size = 16
    settings.kafka.discover_seconds = 1.0
    # a SkyPortal of which a test decides how it fails
    own = settings.skyportal
    own.enabled, own.host, own.token, own.timeout_seconds = True, "127.0.0.1", "secret", 0.5
    (own.port,) = services.free_ports(1)
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    return settings


def topic(settings: Settings, night: str, program: int = 1) -> str:
    pattern = settings.surveys["ZTF"].topics or ""
    return f"{pattern[1:10]}_{night}_programid{program}"


def produce(settings: Settings, name: str, values: list[bytes]) -> None:
    stream.ensure_topic(settings, name, 2)
    producer = Producer(client_config(settings))
    for number, value in enumerate(values):
        producer.produce(name, value, partition=number % 2)
    assert producer.flush(30) == 0


@contextmanager
def broker(settings: Settings, nights: tuple[str, ...] = ()) -> Iterator[AlertBroker]:
    """A broker in a thread, ended in good order."""
    running, stop = AlertBroker(settings, SURVEY, nights), threading.Event()
    thread = threading.Thread(target=running.run, args=(stop.is_set,))
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def stored(settings: Settings, mongo: Mongo) -> int:
    return mongo[settings.database.db][SURVEY.alerts].count_documents({})


def caught_up(settings: Settings) -> bool:
    lag = consumer_lag(settings, SURVEY)
    return bool(lag) and not any(lag.values())


def test_nights_are_discovered_and_offsets_end_where_kafka_does(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    """Two topics, the second one made while the broker runs; unreadable messages among the others."""
    first = [make.encode(make.record(i, f"ZTF23aaa{i % 7:04d}", 2460000.5 + i)) for i in range(1, 101)]
    second = [make.encode(make.record(i, f"ZTF23aab{i % 7:04d}")) for i in range(101, 131)]
    produce(settings, topic(settings, "20230225"), [*first[:50], b"odd", *first[50:]])
    with broker(settings):
        wait(lambda: stored(settings, mongo) == 100, "the first night is not there")
        produce(settings, topic(settings, "20230226", program=3), second)
        wait(lambda: stored(settings, mongo) == 130, "a topic that appeared later is not read")
        wait(lambda: caught_up(settings), "offsets are not committed")
    system = system_database(mongo, settings)
    (letter,) = system[names.DEAD_LETTERS].find()
    assert letter["value"] == b"odd"
    (report,) = reports.read(system, "broker")
    assert (report["alerts"], report["rejected"], report["packets"]) == (130, 1, 131)
    assert report["topics"] == sorted([topic(settings, "20230225"), topic(settings, "20230226", program=3)])
    done = activity.Work()
    for each in activity.since(system, datetime.now(UTC) - timedelta(hours=1))["ZTF"].values():
        done.merge(each)
    assert (done.alerts, done.rejected, done.packets, sum(done.waiting.values())) == (130, 1, 131, 131)
    assert list(settings.spool.iterdir()) == []


def test_a_batch_is_small_while_a_worker_is_spare_and_large_under_load(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    settings.dask.n_workers, settings.broker.batch_age_seconds = 2, 600.0
    system = system_database(mongo, settings)

    def in_flight(count: int) -> bool:
        return any(report["in_flight"] == count for report in reports.read(system, "broker"))

    name = topic(settings, "20230225")
    values = [make.encode(make.record(i)) for i in range(1, 35)]
    with broker(settings):
        for worker in dask_cluster.workers:
            os.kill(worker.pid, signal.SIGSTOP)
        try:
            produce(settings, name, values[:1])
            wait(lambda: in_flight(1), "an alert waits although nothing is to do")
            produce(settings, name, values[1:2])
            wait(lambda: in_flight(2), "an alert waits although a worker is spare")
            produce(settings, name, values[2:])  # two full batches, and no more
            wait(lambda: in_flight(4), "full batches are not sent")
        finally:
            for worker in dask_cluster.workers:
                os.kill(worker.pid, signal.SIGCONT)
        wait(lambda: stored(settings, mongo) == 34, "alerts are missing")


def test_only_the_nights_that_are_asked_for(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    for number, night in enumerate(("20230225", "20230226", "20230227"), start=1):
        produce(settings, topic(settings, night), [make.encode(make.record(number))])
    with broker(settings, ("20230225", "20230227")):
        wait(lambda: stored(settings, mongo) == 2, "two nights are not there")
    assert {alert["_id"] for alert in mongo[settings.database.db][SURVEY.alerts].find()} == {1, 3}


def test_a_new_broker_goes_on_where_the_last_one_stopped(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    name = topic(settings, "20230225")
    produce(settings, name, [make.encode(make.record(i)) for i in range(1, 41)])
    with broker(settings):
        wait(lambda: caught_up(settings), "offsets are not committed")
    produce(settings, name, [make.encode(make.record(i)) for i in range(41, 61)])
    with broker(settings):
        wait(lambda: stored(settings, mongo) == 60, "the rest is not there")
    (report,) = reports.read(system_database(mongo, settings), "broker")
    assert report["packets"] == 20  # and not all over again


def test_a_packet_that_kills_its_workers_is_refused_and_the_rest_of_its_batch_stored(
    settings: Settings, mongo: Mongo, kafka: str, make: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_worker.py").write_text(
        "import os\n"
        "from kowalski.broker import worker\n"
        "from kowalski.broker.worker import dask_setup\n"
        "take = worker.process\n"
        "def process(packets, context):\n"
        "    if any(b'deadly' in packet.value for packet in packets):\n"
        "        os._exit(1)\n"
        "    return take(packets, context)\n"
        "worker.process = process\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    values = [make.encode(make.record(i)) for i in range(1, 9)]
    produce(settings, topic(settings, "20230225"), [*values[:4], b"deadly", *values[4:]])
    with services.dask_cluster(settings, preload="deadly_worker") as cluster, broker(settings):

        def revived() -> bool:
            for worker in cluster.workers:
                worker.start()
            return stored(settings, mongo) == 8 and caught_up(settings)

        wait(revived, "the batch is stuck")
    (letter,) = system_database(mongo, settings)[names.DEAD_LETTERS].find()
    assert (letter["value"], letter["stage"]) == (b"deadly", "worker")


def test_brokers_that_come_and_go_share_the_partitions_and_lose_nothing(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    name = topic(settings, "20230225")
    produce(settings, name, [make.encode(make.record(i)) for i in range(1, 201)])
    with broker(settings):
        wait(lambda: stored(settings, mongo) > 20, "the first broker does not start")
        with broker(settings):
            produce(settings, name, [make.encode(make.record(i)) for i in range(201, 301)])
            wait(lambda: stored(settings, mongo) > 250, "two brokers do not get on")
        produce(settings, name, [make.encode(make.record(i)) for i in range(301, 341)])
        wait(lambda: stored(settings, mongo) == 340, "alerts are missing")
        wait(lambda: caught_up(settings), "offsets are not committed")


def test_a_partition_that_went_away_while_it_was_paused_is_read_when_it_is_back(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    settings.broker.in_flight_bytes = 0  # no room for anything: all partitions are paused
    name = topic(settings, "20230225")
    produce(settings, name, [make.encode(make.record(i)) for i in range(1, 21)])

    def held() -> tuple[bool, int]:
        found = reports.read(system_database(mongo, settings), "broker")
        return (found[0]["paused"], found[0]["partitions"]) if found else (False, 0)

    with broker(settings):
        wait(lambda: held() == (True, 2), "the broker does not pause")
        strategy = {"partition.assignment.strategy": "cooperative-sticky"}
        other = Consumer(client_config(settings, **{"group.id": group_id(settings, SURVEY), **strategy}))
        other.subscribe([name])
        wait(lambda: other.poll(0.1) is None and bool(other.assignment()), "the other one gets no partition")
        wait(lambda: held() == (True, 1), "no partition has gone away")
        other.close()
        wait(lambda: held() == (True, 2), "the partition does not come back")
        settings.broker.in_flight_bytes = 2**27
        wait(lambda: stored(settings, mongo) == 20, "a partition is still paused")


async def test_the_outbox_never_blocks_ingestion(
    settings: Settings, mongo: Mongo, kafka: str, dask_cluster: services.DaskCluster, make: Any
) -> None:
    """SkyPortal takes calls and never answers, then it is away: alerts are stored, offsets committed, passes kept."""
    system = system_database(mongo, settings)
    version = filters.new_version(json.dumps([{"$match": {"candid": {"$gt": 0}}}]))
    system[names.FILTERS].insert_one({
        "filter_id": 1, "group_id": 1, "catalog": SURVEY.alerts, "permissions": [1], "active": True, "autosave": False,
        "update_annotations": False, "active_fid": version["fid"], "fv": [version],
    })  # fmt: skip
    outbox = system[names.OUTBOX]
    with socket.create_server(("127.0.0.1", settings.skyportal.port)) as hanging:
        async with courier.running(settings):
            with broker(settings):
                for first in (1, 31):
                    values = [make.encode(make.record(number)) for number in range(first, first + 30)]
                    produce(settings, topic(settings, "20230225"), values)
                    wanted = first + 29
                    await courier.until(lambda: stored(settings, mongo) == wanted)  # noqa: B023 - called at once
                    await courier.until(lambda: caught_up(settings))
                    assert outbox.count_documents({"state": "pending"}) == wanted
                    await courier.until(lambda: outbox.count_documents({"attempts": {"$gt": 0}}) > 0)
                    hanging.close()
    (report,) = reports.read(system, "courier")
    assert (report["away"], report["delivered"]) == (True, 0)


def test_topic_patterns(settings: Settings) -> None:
    settings.surveys["ZTF"].topics = None
    assert topic_pattern(settings, SURVEY) == "^ztf_([0-9]{8})_programid[123]$"
    assert topic_pattern(settings, SURVEY, ("20230225", "20230226")) == "^ztf_(20230225|20230226)_programid[123]$"
    settings.surveys["ZTF"].topics = "mine_(?P<date>[0-9]+)"
    assert topic_pattern(settings, SURVEY) == "^mine_([0-9]+)"
