"""The hold on the Dask cluster: batches out, results back, and the truth about a cluster that is gone."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from distributed import Client, Future

from kowalski.broker.pipeline import BatchReport

CONNECT_SECONDS = 5
GATHER_SECONDS = 30


class ClusterLost(Exception):
    """The scheduler does not answer, or has forgotten the batch."""


class Job(Protocol):
    """What a task is given: whose batch it is, and how many bytes are in flight with it."""

    @property
    def survey(self) -> str:
        """Name of the survey."""

    @property
    def size(self) -> int:
        """Bytes."""


JobT = TypeVar("JobT", bound=Job)


@dataclass(frozen=True, slots=True)
class Finished(Generic[JobT]):
    """A batch that came back, with its report or with the reason why it has to be sent again."""

    number: int
    ticket: JobT
    report: BatchReport | None
    error: BaseException | None


class Dispatcher(Generic[JobT]):
    """Sends tickets to Dask workers and collects what became of them.

    Every ticket comes back from `collect` exactly once: with a report, or with an error.

    Parameters
    ----------
    address
        The scheduler's address.
    task
        What a worker does with a ticket.
    priority
        Tickets of a higher one go first, whoever sends them.
    """

    def __init__(self, address: str, task: Callable[[JobT], BatchReport], priority: int = 0) -> None:
        self._address = address
        self._task = task
        self._priority = priority
        self._client: Client | None = None
        self._flying: dict[int, tuple[JobT, Future[BatchReport]]] = {}
        self._landed: queue.SimpleQueue[tuple[int, Future[BatchReport]]] = queue.SimpleQueue()

    def __len__(self) -> int:
        """How many batches are in flight."""
        return len(self._flying)

    @property
    def size(self) -> int:
        """How many bytes are in flight."""
        return sum(ticket.size for ticket, _ in self._flying.values())

    def submit(self, number: int, ticket: JobT) -> None:
        """Send a batch.

        Raises
        ------
        ClusterLost
            If the scheduler can't be reached; the batch is not in flight then.
        """
        client = self._connected()
        key = f"{ticket.survey}-{number}-{uuid.uuid4().hex[:8]}"
        # The fewer it has in flight, the sooner its next one: no survey queues behind another's backlog.
        priority = self._priority - len(self._flying)
        # A data producer waits in the scheduler for the first free worker; others go to one at once, be it busy.
        future = client.submit(self._task, ticket, key=key, pure=False, priority=priority, _data_producer=True)
        self._flying[number] = (ticket, future)
        future.add_done_callback(lambda done: self._landed.put((number, done)))

    def collect(self) -> list[Finished[JobT]]:
        """Take what has come back since the last call; a lost cluster brings back everything with `ClusterLost`."""
        finished: list[Finished[JobT]] = []
        while True:
            try:
                number, future = self._landed.get_nowait()
            except queue.Empty:
                break
            ticket, current = self._flying.get(number, (None, None))
            if ticket is not None and current is future:
                del self._flying[number]
                finished.append(_outcome(number, ticket, future))
        if self._client is not None and self._client.status != "running":
            finished += self._abandon()
        return finished

    def close(self) -> None:
        """Let go of the cluster; batches in flight are no longer followed."""
        self._abandon()

    def _connected(self) -> Client:
        if self._client is None:
            try:
                self._client = Client(self._address, timeout=CONNECT_SECONDS, set_as_default=False)
            except OSError as error:
                raise ClusterLost(f"the Dask scheduler at {self._address} does not answer") from error
        return self._client

    def _abandon(self) -> list[Finished[JobT]]:
        lost = ClusterLost(f"the Dask scheduler at {self._address} is gone")
        finished = [Finished(number, ticket, None, lost) for number, (ticket, _) in self._flying.items()]
        self._flying.clear()
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=1)
        return finished


def _outcome(number: int, ticket: JobT, future: Future[BatchReport]) -> Finished[JobT]:
    """Turn a Dask future that is done, in whatever way, into what the broker works with."""
    try:
        if future.status == "finished":
            return Finished(number, ticket, future.result(timeout=GATHER_SECONDS), None)
        if future.status == "error":
            return Finished(number, ticket, None, future.exception(timeout=GATHER_SECONDS))
    except (OSError, TimeoutError) as error:
        return Finished(number, ticket, None, error)
    return Finished(number, ticket, None, ClusterLost(f"Dask gave up the batch ({future.status})"))
