"""How the bytes of a batch reach a worker: a file in a folder that broker and workers share.

Dask carries only a `Ticket`. A worker that does not see the folder (another machine without a shared file system)
fetches the same messages from Kafka by their offsets.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kowalski.broker.batch import Packet
from kowalski.broker.kafka import client_config
from kowalski.config import Settings

FETCH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    """Messages of one partition: offsets ``first`` to ``last``, both included."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A batch as Dask carries it: whose alerts, where the bytes lie, and which messages they are."""

    survey: str
    path: str
    spans: tuple[Span, ...]
    packets: int
    size: int


def write(folder: Path, survey: str, packets: Sequence[Packet], prefix: str | None = None) -> Ticket:
    """Put a batch into ``folder``; on return it is complete, and visible only under its final name."""
    name = f"{prefix or survey}-{uuid.uuid4().hex}"
    hidden, path = folder / f".{name}", folder / name
    rows = [(p.topic, p.partition, p.offset, p.timestamp, p.value) for p in packets]
    with hidden.open("wb") as file:
        pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
    hidden.rename(path)
    return Ticket(survey, str(path), spans(packets), len(packets), sum(len(packet.value) for packet in packets))


def read(ticket: Ticket, settings: Settings) -> list[Packet]:
    """Read a batch back, from its file or, where that is out of sight, from Kafka.

    Raises
    ------
    FileNotFoundError
        If the batch is gone: its broker has finished with it or died.
    confluent_kafka.KafkaException
        If Kafka does not answer.
    """
    path = Path(ticket.path)
    if path.exists() or path.parent.exists():
        with path.open("rb") as file:
            return [Packet(*row) for row in pickle.load(file)]
    return fetch(ticket.spans, settings)


def remove(ticket: Ticket) -> None:
    """Delete the file of a batch that is finished."""
    Path(ticket.path).unlink(missing_ok=True)


def ensure(folder: Path) -> None:
    """Make the folder, for nobody else's eyes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


def clear(folder: Path, survey: str) -> None:
    """Make the folder, and delete what an earlier broker of ``survey`` has left: its offsets are not committed."""
    ensure(folder)
    for pattern in (f"{survey}-*", f".{survey}-*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def spans(packets: Iterable[Packet]) -> tuple[Span, ...]:
    """Sum up which messages a batch holds; messages of one partition must be in order of offset."""
    ends: dict[tuple[str, int], tuple[int, int]] = {}
    for packet in packets:
        key = (packet.topic, packet.partition)
        first, _ = ends.get(key, (packet.offset, packet.offset))
        ends[key] = (first, packet.offset)
    return tuple(Span(topic, partition, first, last) for (topic, partition), (first, last) in ends.items())


def fetch(wanted: Sequence[Span], settings: Settings) -> list[Packet]:
    """Read messages from Kafka by their offsets."""
    consumer = Consumer(
        client_config(
            settings,
            **{"group.id": f"{settings.kafka.group}-fetch", "enable.auto.commit": False, "enable.partition.eof": True},
        )
    )
    try:
        consumer.assign([TopicPartition(span.topic, span.partition, span.first) for span in wanted])
        return _drain(consumer, {(span.topic, span.partition): span.last for span in wanted})
    finally:
        consumer.close()


def _drain(consumer: Consumer, last: dict[tuple[str, int], int]) -> list[Packet]:
    found: list[Packet] = []
    while last:
        message = consumer.poll(FETCH_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        packet = packet_of(message)
        key = (packet.topic, packet.partition)
        wanted = last.get(key, -1)
        if error is None and packet.offset <= wanted:
            found.append(packet)
        if error is not None or packet.offset >= wanted:
            last.pop(key, None)
            consumer.pause([TopicPartition(*key)])
    return found


def packet_of(message: Message) -> Packet:
    """Turn a Kafka message into a packet; one without a value gets empty bytes, which decoding refuses."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise ValueError("a Kafka message without a place")
    return Packet(topic, partition, offset, message.timestamp()[1], message.value() or b"")
