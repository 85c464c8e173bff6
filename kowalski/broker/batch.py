"""The unit of work: packets of one survey that go through all stages together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kowalski.archive.objects import Known
from kowalski.surveys.base import Alert, Survey


@dataclass(frozen=True, slots=True)
class Packet:
    """One Kafka message: its bytes, where it lies, and when it was written (milliseconds since 1970).

    A message may hold several alerts; then each goes its way with a packet of its own, which has the same bytes and
    says by ``record``, counted from 0, which of them is meant.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes
    record: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A packet that can't be processed: the stage that refused it and why."""

    packet: Packet
    stage: str
    reason: str


@dataclass(slots=True)
class Work:
    """One alert on its way: the packet it came in, its parts, and what the stages find out about it."""

    packet: Packet
    alert: Alert
    scores: dict[str, Any] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Alerts that are processed together, ordered by object and jd, and the packets that were refused."""

    survey: Survey
    works: list[Work] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    """What the archive already holds of the batch's objects."""
    matches: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Cross-matches: object id -> catalog -> documents; for known objects only of catalogs that grow."""

    def objects(self) -> dict[str, list[Work]]:
        """Group the works by object; those of one object stay in order of jd."""
        groups: dict[str, list[Work]] = {}
        for work in self.works:
            groups.setdefault(work.alert.object_id, []).append(work)
        return groups

    def located(self) -> dict[str, Alert]:
        """Choose the objects whose place all may know, each with the earliest alert that tells it.

        What moves is left out, and so is an object of which only members of a program have seen alerts.
        """
        found: dict[str, Alert] = {}
        for work in self.works:
            if not work.alert.moves and self.survey.is_public(work.alert):
                found.setdefault(work.alert.object_id, work.alert)
        return found

    def reject(self, works: list[tuple[Work, str]], stage: str) -> None:
        """Take works out of the batch, each with the reason why ``stage`` refuses it."""
        if not works:
            return
        gone = {id(work) for work, _ in works}
        self.rejected += [Rejected(work.packet, stage, reason) for work, reason in works]
        self.works = [work for work in self.works if id(work) not in gone]
