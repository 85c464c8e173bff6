from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from kowalski.broker.kafka import client_config
from kowalski.config import Settings
from kowalski.runtime import kafka
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An instance whose Kafka only this module uses, because it is killed here."""
    return services.new_settings(tmp_path_factory.mktemp("own"), kafka={"heap": "256m", "partitions": 3})


@pytest.fixture(scope="module")
def process(own: Settings):
    with services.running(own, kafka=True) as servers:
        yield servers.kafka


def produce(settings: Settings, topic: str, values: list[bytes]) -> None:
    failures: list[object] = []
    producer = Producer(client_config(settings, acks="all", **{"message.max.bytes": 20_000_000}))
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(30) == 0
    assert not failures


def consume(settings: Settings, topic: str, count: int) -> list[bytes]:
    options = {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "fetch.message.max.bytes": 20_000_000}
    consumer = Consumer(client_config(settings, **options))
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    values: list[bytes] = []
    while len(values) < count:
        messages = consumer.consume(count - len(values), timeout=30)
        assert messages, f"only {len(values)} of {count} messages came back"
        for message in messages:
            assert message.error() is None
            values.append(message.value())
    consumer.close()
    return values


def test_nothing_acknowledged_is_lost_when_killed(own: Settings, process: services.Process) -> None:
    values = [b"%d" % number for number in range(2000)]
    produce(own, "survivors", values)
    process.kill()
    process.start()
    kafka.wait_until_up(own)
    assert sorted(consume(own, "survivors", len(values))) == sorted(values)


def test_a_new_topic_has_the_configured_partitions(own: Settings, process: services.Process) -> None:
    produce(own, "made_by_producing", [b"x"])
    described = Consumer(client_config(own, **{"group.id": "x"})).list_topics("made_by_producing", timeout=30)
    assert len(described.topics["made_by_producing"].partitions) == own.kafka.partitions


def test_large_messages_are_taken(own: Settings, process: services.Process) -> None:
    value = bytes(15_000_000)
    produce(own, "large", [value])
    assert consume(own, "large", 1) == [value]


def test_command_formats_storage_only_once(own: Settings, process: services.Process) -> None:
    identity = (own.path.run / "kafka" / "data" / "meta.properties").read_bytes()
    kafka.command(own)
    assert (own.path.run / "kafka" / "data" / "meta.properties").read_bytes() == identity


def test_interrupted_formatting_is_finished(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    kafka.command(settings)
    written = tmp_path / "run" / "kafka" / "data" / "meta.properties"
    first = written.read_text()
    written.unlink()
    kafka.command(settings)
    cluster = (tmp_path / "run" / "kafka" / "cluster.id").read_text()
    assert f"cluster.id={cluster}" in first
    assert f"cluster.id={cluster}" in written.read_text()


def test_nobody_there_is_said_with_the_key(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    with pytest.raises(ServiceError, match=rf"127.0.0.1:{settings.kafka.port} .*\(kafka.port\).*kafka.log"):
        kafka.wait_until_up(settings, timeout=0.5)
    settings.kafka.bootstrap.servers = f"127.0.0.1:{services.free_ports(1)[0]}"
    with pytest.raises(ServiceError, match=r"check kafka\.bootstrap\.servers"):
        kafka.wait_until_up(settings, timeout=0.5)


def test_java_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ServiceError, match="Java 17 or later and there is only Java 11"):
        kafka.find_java()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServiceError, match="there is no Java"):
        kafka.find_java()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    (tmp_path / "run" / "kafka").write_text("in the way")
    with pytest.raises(ServiceError, match=r"Kafka's folder .*/run/kafka can't be written"):
        kafka.command(settings)
