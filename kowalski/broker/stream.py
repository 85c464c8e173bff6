"""Putting alert packets from files onto a Kafka topic, as a survey's own pipeline would."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kowalski.broker.avro import Decoder
from kowalski.broker.kafka import client_config, producer_config
from kowalski.config import Settings
from kowalski.surveys import SURVEYS
from kowalski.surveys.base import PacketError

BUFFER_KB = 64 * 1024
"""Packets that wait for Kafka take no more memory than this."""
MAX_MESSAGE = 20 * 1024 * 1024
DELIVERY_MS = 60_000
"""A packet that Kafka hasn't acknowledged after this time counts as failed."""
TOPIC_SECONDS = 30.0


class StreamError(Exception):
    """Packets can't be produced; the text is one sentence for the operator."""


@dataclass(slots=True)
class Delivery:
    """What has become of the packets: how many Kafka has acknowledged, and how many it refused and why."""

    sent: int = 0
    sent_bytes: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def record(self, error: KafkaError | None, message: Message) -> None:
        """Count one packet; the producer calls this when Kafka has answered."""
        if error is not None:
            self.failed[error.str()] += 1
        else:
            self.sent += 1
            self.sent_bytes += len(message)

    @property
    def done(self) -> int:
        """How many packets Kafka has answered for."""
        return self.sent + self.failed.total()


def find_packets(folder: Path, limit: int | None = None) -> list[Path]:
    """List the ``*.avro`` files under ``folder``, in the order of their paths.

    Raises
    ------
    StreamError
        If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise StreamError(f"there is no folder {folder}")
    found = sorted(folder.rglob("*.avro"))
    if not found:
        raise StreamError(f"there are no *.avro files under {folder}")
    return found[:limit]


def ensure_topic(settings: Settings, topic: str, partitions: int | None = None, patience: float = TOPIC_SECONDS) -> int:
    """Make ``topic`` unless it exists.

    Parameters
    ----------
    topic
        The topic's name.
    partitions
        How many partitions a new topic gets; None: ``kafka.partitions``.
    patience
        Seconds that Kafka may take for an answer.

    Returns
    -------
    int
        How many partitions the topic has.

    Raises
    ------
    StreamError
        If Kafka can't be asked or refuses.
    """
    client = AdminClient(client_config(settings))
    try:
        known = client.list_topics(timeout=patience).topics.get(topic)
        if known is not None:
            return len(known.partitions)
        count = partitions or settings.kafka.partitions
        client.create_topics([NewTopic(topic, count)], operation_timeout=patience)[topic].result(patience)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else was faster
            raise StreamError(f"Kafka at {settings.kafka.servers} can't make topic {topic}: {reason.str()}") from error
        return len(client.list_topics(topic, timeout=patience).topics[topic].partitions)
    return count


def send(
    settings: Settings,
    topic: str,
    packets: Iterable[Path],
    rate: float | None = None,
    report: Callable[[Delivery], None] | None = None,
) -> Delivery:
    """Produce files to ``topic``, acknowledged by all replicas, in bounded memory.

    Parameters
    ----------
    topic
        The topic, which exists.
    packets
        Files that hold one packet each; their bytes are the messages.
    rate
        Packets per second; None: as fast as Kafka takes them.
    report
        Called after each packet with what has been delivered so far.

    Raises
    ------
    StreamError
        If a file can't be read.
    """
    delivery, decoder = Delivery(), Decoder()
    options = {
        "linger.ms": 20,
        "message.max.bytes": MAX_MESSAGE,
        "message.timeout.ms": DELIVERY_MS,
        "queue.buffering.max.kbytes": BUFFER_KB,
    }
    producer = Producer(producer_config(settings, **options))
    start = time.monotonic()
    try:
        for number, path in enumerate(packets):
            if rate is not None:
                _wait_until(start + number / rate, producer)
            value = _read(path)
            _produce(producer, topic, _key(value, path, decoder), value, delivery)
            if report is not None:
                report(delivery)
    finally:
        _flush(producer, delivery, report)
    return delivery


def _wait_until(moment: float, producer: Producer) -> None:
    """Serve delivery reports until ``moment`` (monotonic seconds)."""
    while (left := moment - time.monotonic()) > 0:
        producer.poll(min(left, 1.0))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StreamError(f"{path} can't be read: {error.strerror}") from error


def _key(value: bytes, path: Path, decoder: Decoder) -> str:
    """Name the packet's object: alerts of one object go to one partition, so that they stay in order.

    A packet that can't be read goes by its file's name; the broker will refuse it, or has the schema.
    """
    try:
        records = decoder.records(value)
    except PacketError:
        return path.stem
    names = (survey.object_name(record) for record in records for survey in SURVEYS.values())
    return next(filter(None, names), path.stem)


def _produce(producer: Producer, topic: str, key: str, value: bytes, delivery: Delivery) -> None:
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=delivery.record)
        except BufferError:  # 64 MB wait already: Kafka answers for some of them, or gives them up in time
            producer.poll(1.0)
        except KafkaException as error:  # refused on the spot, for its size
            delivery.failed[error.args[0].str()] += 1
            return
        else:
            producer.poll(0)
            return


def _flush(producer: Producer, delivery: Delivery, report: Callable[[Delivery], None] | None) -> None:
    """Wait for Kafka's answer to every packet; each is given up after `DELIVERY_MS`."""
    while producer.flush(0.2):
        if report is not None:
            report(delivery)
    if report is not None:
        report(delivery)
