"""Batches reach a worker byte for byte: through the folder, or from Kafka where the folder is out of sight."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from kowalski.broker import stream
from kowalski.broker.batch import Packet
from kowalski.broker.kafka import client_config
from kowalski.broker.spool import Span, Spool, Ticket, packet_of, read, spans
from kowalski.config import PROJECT, Settings


def produced(settings: Settings, topic: str, values: list[bytes]) -> list[Packet]:
    """Put messages onto two partitions in turn, and describe them as a consumer would."""
    stream.ensure_topic(settings, topic, 2)
    producer = Producer(client_config(settings))
    packets: list[Packet] = []

    def delivered(error: object, message: object) -> None:
        assert error is None
        packets.append(packet_of(message))  # type: ignore[arg-type]

    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 2, on_delivery=delivered)
    producer.flush(30)
    assert len(packets) == len(values)
    return sorted(packets, key=lambda packet: (packet.partition, packet.offset))


def test_a_batch_reads_back_from_the_folder(settings: Settings) -> None:
    packets = [Packet("t", i % 2, i, 1000 + i, bytes([i]) * i) for i in range(20)]
    spool = Spool(settings.spool, "ZTF")
    ticket = spool.write(packets)
    assert read(ticket, settings) == packets
    assert (ticket.packets, ticket.size) == (20, sum(range(20)))
    assert {(span.partition, span.first, span.last) for span in ticket.spans} == {(0, 0, 18), (1, 1, 19)}
    spool.remove(ticket)
    spool.remove(ticket)
    assert not Path(ticket.path).exists()
    spool.close()
    assert list(settings.spool.iterdir()) == []


OWNER = """
import sys
from pathlib import Path
from kowalski.broker.batch import Packet
from kowalski.broker.spool import Spool

spool = Spool(Path(sys.argv[1]), "ZTF")
print(spool.write([Packet("t", 0, 0, 0, b"x")]).path, flush=True)
sys.stdin.read()
"""


def test_what_the_dead_leave_is_cleared_and_what_others_work_on_is_not(settings: Settings) -> None:
    """Two brokers of one survey side by side, one of them killed: a third one clears only the dead one's folder."""
    mine = Spool(settings.spool, "ZTF")
    kept = mine.write([Packet("t", 0, 0, 0, b"x")])
    command = [sys.executable, "-c", OWNER, str(settings.spool)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as other:
        assert other.stdout is not None
        path = Path(other.stdout.readline().strip())
        Spool(settings.spool, "PGIR").close()
        assert path.exists()
        other.kill()
        other.wait(30)
    assert path.exists()
    Spool(settings.spool, "ZTF").close()
    assert not path.parent.exists()
    assert Path(kept.path).exists()
    assert settings.spool.stat().st_mode & 0o777 == 0o700
    mine.close()


def test_without_the_file_the_same_messages_come_from_kafka(settings: Settings, kafka: str) -> None:
    topic = f"spool_{uuid.uuid4().hex[:8]}"
    packets = produced(settings, topic, [b"%d" % i * 1000 for i in range(40)])
    wanted = [packet for packet in packets if 3 <= packet.offset <= 11]
    ticket = Ticket("ZTF", "/nowhere/at/all", spans(wanted), len(wanted), 0)
    found = sorted(read(ticket, settings), key=lambda packet: (packet.partition, packet.offset))
    assert found == wanted


def test_messages_that_are_gone_from_kafka_are_not_passed_over(settings: Settings, kafka: str) -> None:
    topic = f"spool_{uuid.uuid4().hex[:8]}"
    produced(settings, topic, [b"x"] * 4)
    with pytest.raises(KafkaException):
        read(Ticket("ZTF", "/nowhere", (Span(topic, 0, 0, 5),), 6, 0), settings)
    with pytest.raises(KafkaException):
        read(Ticket("ZTF", "/nowhere", (Span(topic, 0, 50, 51),), 2, 0), settings)
