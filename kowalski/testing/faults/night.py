"""Alerts of a campaign: simulated packets, what must become of each, and how they get into Kafka."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from kowalski.broker import stream
from kowalski.config import Settings
from kowalski.runtime.errors import ServiceError
from kowalski.surveys.base import Survey
from kowalski.testing import simulator

FIRST_NIGHT = date(2024, 3, 1)
PIECE_SECONDS = 2.0
"""So long is sent at a stretch before it is looked whether the topic is still the same."""


@dataclass(slots=True)
class Places:
    """Where objects of one survey are, degrees: a catalog source is put there, so that each must have a match."""

    survey: Survey
    objects: dict[str, tuple[float, float]]


def make(survey: Survey, folder: Path, count: int, seed: int, night: date, taken: set[int]) -> Places:
    """Write ``count`` packets into ``folder``, except those whose candid is in ``taken``, to which theirs are added."""
    folder.mkdir(parents=True)
    writer, places = simulator.writer(survey.name), Places(survey, {})
    for number, each in enumerate(simulator.packets(count, survey.name, seed, night)):
        alert = survey.shape(each.packet)
        if alert.candid not in taken:
            taken.add(alert.candid)
            places.objects.setdefault(alert.object_id, (alert.ra, alert.dec))
            (folder / f"{number:05}.avro").write_bytes(writer.encode(each.packet))
    return places


class Sender:
    """Sends packets of one survey to Kafka at a pace, until all of them are there, whatever becomes of Kafka meanwhile.

    Parameters
    ----------
    settings
        Where Kafka is.
    survey, night
        Whose alerts, and of which night: they name the topic.
    packets
        Files with one packet each.
    rate
        Packets per second.
    """

    def __init__(self, settings: Settings, survey: Survey, night: date, packets: Iterable[Path], rate: float) -> None:
        self._settings, self._rate = settings, rate
        self.survey, self._night = survey, night
        self._is_new = False
        self._left = list(packets)
        self._thread = threading.Thread(target=self._send)

    @property
    def topic(self) -> str:
        """The topic to which packets go at the moment."""
        return self.survey.topic_of(self._night)

    @property
    def may_change(self) -> bool:
        """Whether this night has had packets, and enough are left that some would go to a topic named now."""
        return not self._is_new and len(self._left) > 2 * max(1, int(self._rate * PIECE_SECONDS))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def next_night(self) -> str:
        """Have the rest of the packets go to the topic of the next night, which appears with them."""
        self._night += timedelta(days=1)
        self._is_new = True
        return self.topic

    def join(self) -> None:
        """Wait until all packets are in Kafka."""
        self._thread.join()

    def _send(self) -> None:
        logging.getLogger("kowalski.kafka").setLevel(logging.CRITICAL)  # Kafka dies all the time
        size = max(1, int(self._rate * PIECE_SECONDS))
        while self._left:
            piece, topic = self._left[:size], self.topic
            try:
                stream.ensure_topic(self._settings, topic)
                failed = stream.send(self._settings, topic, piece, self._rate).failed
            except (stream.StreamError, ServiceError):
                time.sleep(1)
                continue
            if not failed:  # else some of them are there twice in the end, which must not matter
                del self._left[:size]
                self._is_new &= topic != self.topic
