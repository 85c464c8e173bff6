from __future__ import annotations

import io
import time
import uuid
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition

from kowalski.broker.kafka import client_config
from kowalski.broker.stream import Delivery, StreamError, ensure_topic, find_packets, send
from kowalski.config import Settings

SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "alert",
        "fields": [{"name": "objectId", "type": "string"}, {"name": "n", "type": "int"}],
    }
)


def packet(name: str, number: int) -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, SCHEMA, [{"objectId": name, "n": number}])
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve packets of three objects in two folders, one that is no Avro, and a file of another kind."""
    for number in range(12):
        path = tmp_path / "packets" / f"night{number // 6}" / f"{number:03}.avro"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packet(f"object{number % 3}", number))
    (tmp_path / "packets" / "odd.avro").write_bytes(b"no Avro at all")
    (tmp_path / "packets" / "readme.txt").write_text("x")
    return tmp_path / "packets"


def received(settings: Settings, topic: str) -> dict[int, list[tuple[bytes, bytes]]]:
    """Everything on ``topic``: (key, value) in order, by partition."""
    consumer = Consumer(client_config(settings, **{"group.id": uuid.uuid4().hex, "enable.partition.eof": True}))
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in partitions}
    ended = 0
    while ended < len(partitions):
        message = consumer.poll(30)
        assert message is not None
        if message.error() is not None:
            ended += 1
        else:
            found[message.partition()].append((message.key(), message.value()))
    consumer.close()
    return found


def test_all_files_arrive_as_they_are(settings: Settings, kafka: str, folder: Path) -> None:
    topic, reports = f"stream_{uuid.uuid4().hex}", []
    ensure_topic(settings, topic, 3)
    packets = find_packets(folder)
    delivery = send(settings, topic, packets, report=lambda delivery: reports.append(delivery.done))
    assert (delivery.sent, delivery.failed.total()) == (13, 0)
    assert delivery.sent_bytes == sum(path.stat().st_size for path in packets)
    assert reports[-1] == 13
    found = received(settings, topic)
    assert sorted(value for messages in found.values() for _, value in messages) == sorted(
        path.read_bytes() for path in packets
    )


def test_one_object_stays_in_one_partition_and_in_order(settings: Settings, kafka: str, folder: Path) -> None:
    topic = f"stream_{uuid.uuid4().hex}"
    ensure_topic(settings, topic, 3)
    send(settings, topic, find_packets(folder))
    places: dict[bytes, list[tuple[int, bytes]]] = {}
    for partition, messages in received(settings, topic).items():
        for key, value in messages:
            places.setdefault(key, []).append((partition, value))
    assert set(places) == {b"object0", b"object1", b"object2", b"odd"}
    for number in range(3):
        at = places[f"object{number}".encode()]
        assert len({partition for partition, _ in at}) == 1
        numbers = [next(iter(fastavro.reader(io.BytesIO(value))))["n"] for _, value in at]
        assert numbers == sorted(numbers)
        assert len(numbers) == 4


def test_files_come_in_order_of_path_and_limited(folder: Path) -> None:
    assert [path.stem for path in find_packets(folder, 3)] == ["000", "001", "002"]
    assert find_packets(folder)[-1].name == "odd.avro"


def test_folders_without_packets_are_named(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"there is no folder .*absent"):
        find_packets(tmp_path / "absent")
    with pytest.raises(StreamError, match=r"no \*\.avro files under"):
        find_packets(tmp_path)


def test_a_topic_keeps_its_partitions(settings: Settings, kafka: str) -> None:
    topic = f"stream_{uuid.uuid4().hex}"
    assert ensure_topic(settings, topic) == settings.kafka.partitions
    assert ensure_topic(settings, topic, 7) == settings.kafka.partitions


def test_a_topic_that_kafka_refuses_is_named(settings: Settings, kafka: str) -> None:
    with pytest.raises(StreamError, match=r"can't make topic no/slash"):
        ensure_topic(settings, "no/slash")


def test_a_packet_that_is_too_large_is_counted(settings: Settings, kafka: str, tmp_path: Path) -> None:
    topic = f"stream_{uuid.uuid4().hex}"
    ensure_topic(settings, topic, 1)
    (tmp_path / "1.avro").write_bytes(bytes(21 * 1024 * 1024))
    (tmp_path / "2.avro").write_bytes(packet("object", 1))
    delivery = send(settings, topic, find_packets(tmp_path))
    assert delivery.sent == 1
    assert delivery.failed.total() == 1


def test_more_than_the_buffer_holds(
    settings: Settings, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kowalski.broker.stream.BUFFER_KB", 1024)
    topic = f"stream_{uuid.uuid4().hex}"
    ensure_topic(settings, topic, 2)
    for number in range(40):
        (tmp_path / f"{number}.avro").write_bytes(bytes(300_000))
    assert send(settings, topic, find_packets(tmp_path)).sent == 40


def test_a_file_that_vanishes_is_named(settings: Settings, kafka: str, folder: Path) -> None:
    topic = f"stream_{uuid.uuid4().hex}"
    ensure_topic(settings, topic, 1)
    packets = find_packets(folder)
    packets[3].unlink()
    with pytest.raises(StreamError, match=r"003\.avro can't be read: No such file"):
        send(settings, topic, packets)


def test_rate_sets_the_earliest_moment_of_each_packet(settings: Settings, kafka: str, folder: Path) -> None:
    topic = f"stream_{uuid.uuid4().hex}"
    ensure_topic(settings, topic, 1)
    began = time.time() * 1000.0
    send(settings, topic, find_packets(folder, 5), rate=20.0)
    consumer = Consumer(client_config(settings, **{"group.id": uuid.uuid4().hex}))
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(5, timeout=30)
    consumer.close()
    assert len(messages) == 5
    for number, message in enumerate(messages):
        assert message.timestamp()[1] >= began + number * 50.0 - 5.0  # clocks differ in their resolution


def test_delivery_counts_nothing_before_kafka_answers() -> None:
    assert Delivery().done == 0
