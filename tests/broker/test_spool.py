"""Batches reach a worker byte for byte: through the folder, or from Kafka where the folder is out of sight."""

from __future__ import annotations

import uuid
from pathlib import Path

from confluent_kafka import Producer

from kowalski.broker import spool, stream
from kowalski.broker.batch import Packet
from kowalski.broker.kafka import client_config
from kowalski.config import Settings


def produced(settings: Settings, topic: str, values: list[bytes]) -> list[Packet]:
    """Put messages onto two partitions in turn, and describe them as a consumer would."""
    stream.ensure_topic(settings, topic, 2)
    producer = Producer(client_config(settings))
    packets: list[Packet] = []

    def delivered(error: object, message: object) -> None:
        assert error is None
        packets.append(spool.packet_of(message))  # type: ignore[arg-type]

    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 2, on_delivery=delivered)
    producer.flush(30)
    assert len(packets) == len(values)
    return sorted(packets, key=lambda packet: (packet.partition, packet.offset))


def test_a_batch_reads_back_from_the_folder(settings: Settings) -> None:
    packets = [Packet("t", i % 2, i, 1000 + i, bytes([i]) * i) for i in range(20)]
    spool.clear(settings.spool, "ZTF")
    ticket = spool.write(settings.spool, "ZTF", packets)
    assert spool.read(ticket, settings) == packets
    assert (ticket.packets, ticket.size) == (20, sum(range(20)))
    assert {(span.partition, span.first, span.last) for span in ticket.spans} == {(0, 0, 18), (1, 1, 19)}
    spool.remove(ticket)
    spool.remove(ticket)
    assert list(settings.spool.iterdir()) == []


def test_a_new_broker_clears_its_own_leftovers_only(settings: Settings) -> None:
    spool.clear(settings.spool, "ZTF")
    mine, other = (spool.write(settings.spool, name, [Packet("t", 0, 0, 0, b"x")]) for name in ("ZTF", "PGIR"))
    spool.clear(settings.spool, "ZTF")
    assert not Path(mine.path).exists()
    assert Path(other.path).exists()
    assert settings.spool.stat().st_mode & 0o777 == 0o700


def test_without_the_folder_the_same_messages_come_from_kafka(settings: Settings, kafka: str) -> None:
    topic = f"spool_{uuid.uuid4().hex[:8]}"
    packets = produced(settings, topic, [b"%d" % i * 1000 for i in range(40)])
    wanted = [packet for packet in packets if 3 <= packet.offset <= 11]
    ticket = spool.Ticket("ZTF", "/nowhere/at/all", spool.spans(wanted), len(wanted), 0)
    found = sorted(spool.read(ticket, settings), key=lambda packet: (packet.partition, packet.offset))
    assert found == wanted
