"""Which offsets may be committed: those before which every message's batch is finished, partition by partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from kowalski.broker.spool import Span

Partition = tuple[str, int]


@dataclass(slots=True)
class _Entry:
    batch: int
    last: int
    finished: bool = False


class Ledger:
    """Batches in the order in which they were taken from Kafka, and what is finished of them."""

    def __init__(self) -> None:
        self._open: dict[Partition, deque[_Entry]] = {}
        self._batches: dict[int, list[tuple[Partition, _Entry]]] = {}
        self._commit: dict[Partition, int] = {}

    def take(self, batch: int, spans: Iterable[Span]) -> None:
        """Note that ``batch`` holds these messages; batches are taken in order of offset."""
        entries = self._batches.setdefault(batch, [])
        for span in spans:
            entry = _Entry(batch, span.last)
            self._open.setdefault((span.topic, span.partition), deque()).append(entry)
            entries.append(((span.topic, span.partition), entry))

    def finish(self, batch: int) -> None:
        """Note that every effect of ``batch`` is durable."""
        for partition, entry in self._batches.pop(batch, ()):
            entry.finished = True
            waiting = self._open.get(partition)
            while waiting and waiting[0].finished:
                self._commit[partition] = waiting.popleft().last + 1

    def commitable(self) -> dict[Partition, int]:
        """Take the offsets at which reading would go on, for partitions where they have moved since the last call."""
        moved, self._commit = self._commit, {}
        return moved

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop partitions that belong to another consumer now; what they still had in work is read again there."""
        for partition in partitions:
            self._open.pop(partition, None)
            self._commit.pop(partition, None)
