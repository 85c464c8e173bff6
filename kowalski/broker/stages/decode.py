"""First stage: bytes to alerts. Whatever can't be read is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Batch, Packet, Rejected, Work
from kowalski.surveys.base import Alert, PacketError, Record, Survey

NAME = "decode"


def decode(packets: Iterable[Packet], survey: Survey, decoder: Decoder) -> Batch:
    """Make a batch of packets: each alert once, those of one object together and in order of jd."""
    batch = Batch(survey)
    works: dict[int, Work] = {}
    for packet in packets:
        try:
            records = _records(packet, decoder)
        except PacketError as error:
            batch.rejected.append(Rejected(packet, NAME, str(error)))
            continue
        for one, record in records:
            try:
                work = Work(one, _shape(survey, record))
                present = works.setdefault(work.alert.candid, work)
                _same_object(present, work)
            except PacketError as error:
                batch.rejected.append(Rejected(one, NAME, str(error)))
    batch.works = sorted(works.values(), key=lambda work: (work.alert.object_id, work.alert.jd, work.alert.candid))
    return batch


def _records(packet: Packet, decoder: Decoder) -> list[tuple[Packet, Record]]:
    """Decode a message; where it holds several records, each gets a packet of its own."""
    records = decoder.records(packet.value)
    if packet.record is not None:
        return [(packet, records[packet.record])]
    if len(records) == 1:
        return [(packet, records[0])]
    return [(replace(packet, record=number), record) for number, record in enumerate(records)]


def _shape(survey: Survey, record: Record) -> Alert:
    try:
        return survey.shape(record)
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise PacketError(f"its fields are not those of the survey: {type(error).__name__}: {error}") from error


def _same_object(first: Work, second: Work) -> None:
    if first.alert.object_id != second.alert.object_id:
        raise PacketError(f"candid {second.alert.candid} already belongs to object {first.alert.object_id}")
