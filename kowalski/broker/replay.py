"""Another chance for dead letters: each goes through all stages again, on the Dask workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from kowalski.archive import dead_letters, names
from kowalski.archive.client import Document
from kowalski.broker.batch import Packet
from kowalski.broker.dispatch import Dispatcher, Finished
from kowalski.broker.spool import Spool, Ticket
from kowalski.broker.worker import process_ticket
from kowalski.config import Settings

IN_FLIGHT = 8
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one dead letter: ``trouble`` is None if it was processed and is gone from the list."""

    where: dict[str, Any]
    trouble: str | None


def replay(settings: Settings, system: Database[Document], ids: Sequence[dict[str, Any]]) -> Iterator[Replayed]:
    """Process dead letters again; those that fail again stay in the list.

    Raises
    ------
    kowalski.broker.dispatch.ClusterLost
        If the Dask cluster does not answer, or goes away on the way; what is not reported yet stays in the list.
    """
    letters = system[names.DEAD_LETTERS]
    clusters = _Clusters(settings)
    pending = list(enumerate(ids))
    try:
        while pending or clusters.busy:
            while pending and clusters.busy < IN_FLIGHT:
                number, where = pending.pop(0)
                letter = letters.find_one({"_id": where})
                if letter is None:
                    yield Replayed(where, "there is no such dead letter")
                elif letter["size"] > len(letter["value"]):
                    yield Replayed(where, "it is too large: only a part of it was kept")
                else:
                    clusters.submit(number, letter)
            for finished in clusters.collect():
                yield _outcome(finished, ids[finished.number], system)
            time.sleep(POLL_SECONDS)
    finally:
        clusters.close()


class _Clusters:
    """The Dask clusters and spools of those surveys that the dead letters are of, opened when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dispatchers: dict[str, Dispatcher[Ticket]] = {}
        self._spools: dict[str, Spool] = {}

    @property
    def busy(self) -> int:
        """How many letters are in work."""
        return sum(map(len, self._dispatchers.values()))

    def submit(self, number: int, letter: Document) -> None:
        survey = letter["survey"]
        address = self._settings.scheduler_of(survey)
        if survey not in self._spools:
            self._spools[survey] = Spool(self._settings.spool, survey)
        if address not in self._dispatchers:
            self._dispatchers[address] = Dispatcher(address, process_ticket)
        self._dispatchers[address].submit(number, self._spools[survey].write([_packet(letter)]))

    def collect(self) -> list[Finished[Ticket]]:
        return [finished for dispatcher in self._dispatchers.values() for finished in dispatcher.collect()]

    def close(self) -> None:
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        for spool in self._spools.values():
            spool.close()


def _packet(letter: Document) -> Packet:
    where = letter["_id"]
    return Packet(
        where["topic"],
        where["partition"],
        where["offset"],
        letter["kafka_timestamp"],
        bytes(letter["value"]),
        where.get("record"),
    )


def _outcome(finished: Finished[Ticket], where: dict[str, Any], system: Database[Document]) -> Replayed:
    if finished.report is None:
        return Replayed(where, f"{type(finished.error).__name__}: {finished.error}")
    if finished.report.rejected:
        letter = system[names.DEAD_LETTERS].find_one({"_id": where}, {"reason": 1}) or {}
        return Replayed(where, letter.get("reason", "it was refused again"))
    dead_letters.remove(system[names.DEAD_LETTERS], [where])
    return Replayed(where, None)
