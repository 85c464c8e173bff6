"""How the bytes of a batch reach a worker: a file in a folder that broker and workers share.

Dask carries only a `Ticket`. A worker that does not see the file (another machine without a shared file system, or
somebody tidied up) fetches the same messages from Kafka by their offsets.
"""

from __future__ import annotations

import fcntl
import pickle
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kowalski.broker.batch import Packet
from kowalski.broker.kafka import client_config
from kowalski.config import Settings

FETCH_SECONDS = 30.0
LOCK = ".lock"


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


class Spool:
    """A folder of its own for each process that spools, below the one that all share.

    Its lock tells that the owner lives: the system lets go of it when the process ends, however it ends. So whoever
    comes next knows which leftovers are nobody's, and several brokers of one survey leave each other alone.

    Parameters
    ----------
    root
        The shared folder; made where it is missing, for nobody else's eyes.
    survey
        Whose batches.

    Raises
    ------
    OSError
        If the folder can't be written.
    """

    def __init__(self, root: Path, survey: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)
        _clear(root)
        self._survey = survey
        name = f"{survey}-{uuid.uuid4().hex}"
        hidden, self.folder = root / f".{name}", root / name
        hidden.mkdir(mode=0o700)
        self._lock = (hidden / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        hidden.rename(self.folder)  # nobody sees it before it is locked

    def write(self, packets: Sequence[Packet]) -> Ticket:
        """Put a batch into the folder; on return it is complete, and visible only under its final name."""
        name = uuid.uuid4().hex
        hidden, path = self.folder / f".{name}", self.folder / name
        rows = [(p.topic, p.partition, p.offset, p.timestamp, p.value, p.record) for p in packets]
        with hidden.open("wb") as file:
            pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
        hidden.rename(path)
        size = sum(len(packet.value) for packet in packets)
        return Ticket(self._survey, str(path), spans(packets), len(packets), size)

    def remove(self, ticket: Ticket) -> None:
        """Delete the file of a batch that is finished."""
        Path(ticket.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder: what is not finished is not committed, and comes from Kafka again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _clear(root: Path) -> None:
    """Delete the folders of processes that have died."""
    for lock in root.glob(f"*/{LOCK}"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent)
        except (BlockingIOError, FileNotFoundError):  # its owner lives, or another one has just cleared it away
            continue


def read(ticket: Ticket, settings: Settings) -> list[Packet]:
    """Read a batch back, from its file or, where that is out of sight, from Kafka.

    Raises
    ------
    confluent_kafka.KafkaException
        If Kafka does not answer, or no longer has the messages.
    """
    try:
        with Path(ticket.path).open("rb") as file:
            return [Packet(*row) for row in pickle.load(file)]
    except FileNotFoundError:
        return fetch(ticket, settings)


def spans(packets: Iterable[Packet]) -> tuple[Span, ...]:
    """Sum up which messages a batch holds; messages of one partition must be in order of offset."""
    ends: dict[tuple[str, int], tuple[int, int]] = {}
    for packet in packets:
        key = (packet.topic, packet.partition)
        first, _ = ends.get(key, (packet.offset, packet.offset))
        ends[key] = (first, packet.offset)
    return tuple(Span(topic, partition, first, last) for (topic, partition), (first, last) in ends.items())


def fetch(ticket: Ticket, settings: Settings) -> list[Packet]:
    """Read a batch's messages from Kafka by their offsets; see `read`."""
    own = {
        "group.id": f"{settings.kafka.group}-fetch",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",  # a message that has expired is no reason to go on with the next one
    }
    consumer = Consumer(client_config(settings, **own))
    try:
        consumer.assign([TopicPartition(span.topic, span.partition, span.first) for span in ticket.spans])
        found = _drain(consumer, {(span.topic, span.partition): span.last for span in ticket.spans})
    finally:
        consumer.close()
    if len(found) != ticket.packets:
        gone = f"Kafka has {len(found)} of the {ticket.packets} messages {ticket.spans}"
        raise KafkaException(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE, gone))
    return found


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
