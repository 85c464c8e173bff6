"""Whether alerts of other surveys are on their way: they share the workers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from kowalski.archive.client import Document

FLOWS_SECONDS = 60.0
"""A survey flows until so long after its broker last told of alerts."""


class Neighbours:
    """Knows it from what the brokers report of themselves.

    Parameters
    ----------
    names
        Names of the other brokers' reports that share the workers.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._packets: dict[str, int] = {}
        self._moved_at = -math.inf

    @property
    def flow(self) -> bool:
        """Whether another survey has had alerts to process lately."""
        return time.monotonic() - self._moved_at < FLOWS_SECONDS

    def look(self, found: Iterable[Document]) -> None:
        """Compare reports with those of the last time."""
        for report in found:
            name, packets = report["_id"], report.get("packets", 0)
            if name in self._names:
                if report.get("in_flight") or packets != self._packets.get(name, packets):
                    self._moved_at = time.monotonic()
                self._packets[name] = packets
