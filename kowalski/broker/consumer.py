"""The broker of one survey: Kafka messages to batches, batches to Dask, offsets back to Kafka when all is durable.

Kafka is the queue: what can't be worked on stays there. A bounded number of batches is in flight; while that is
reached, or something that Kowalski depends on is away, the partitions are paused and the broker waits.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from distributed import KilledWorker

from kowalski import garbage
from kowalski.broker import spool
from kowalski.broker.batch import Packet
from kowalski.broker.bookkeeping import Bookkeeping
from kowalski.broker.dispatch import ClusterLost, Dispatcher, Finished
from kowalski.broker.kafka import client_config, group_id
from kowalski.broker.lag import topic_pattern
from kowalski.broker.ledger import Ledger, Partition
from kowalski.broker.patience import Patience
from kowalski.broker.spool import Spool, Ticket
from kowalski.broker.worker import process_ticket
from kowalski.config import Settings
from kowalski.surveys import get
from kowalski.surveys.base import Survey

POLL_SECONDS = 0.05
"""How long one look for new messages lasts; results are collected in between."""
DRAIN_SECONDS = 8.0
"""At the end, how long batches in flight are waited for."""
COMMIT_SECONDS = 0.5

log = logging.getLogger(__name__)


class AlertBroker:
    """Takes a survey's alerts from Kafka and sees to it that each is processed, whatever fails in between.

    Parameters
    ----------
    settings
        The instance's settings.
    survey
        Whose alerts.
    nights
        Nights (YYYYMMDD) to read; none means all that Kafka has and will have.
    """

    def __init__(self, settings: Settings, survey: Survey, nights: Sequence[str] = ()) -> None:
        self._settings = settings
        self._limits = settings.broker
        self._survey = survey
        self._pattern = topic_pattern(settings, survey, tuple(nights))
        self._dispatcher = Dispatcher(settings.scheduler_of(survey.name), process_ticket)
        self._ledger = Ledger()
        self._patience = Patience()
        self._books = Bookkeeping(settings, survey)
        self._buffer: list[Packet] = []
        self._buffered = 0
        self._first_at = 0.0
        self._waiting: deque[tuple[int, Ticket]] = deque()
        self._parts: dict[int, tuple[int, set[int]]] = {}
        self._accused: set[int] = set()
        self._accused_flies = False
        self._number = 0
        self._paused: frozenset[Partition] = frozenset()
        self._flowing: frozenset[Partition] = frozenset()
        self._committed_at = 0.0
        self._offsets: dict[Partition, int] = {}
        self._commit_failed = False
        self._spool = Spool(settings.spool, survey.name)
        self._consumer = Consumer(self._consumer_config())

    def _consumer_config(self) -> dict[str, Any]:
        refresh = int(self._settings.kafka.discover_seconds * 1000)
        return client_config(
            self._settings,
            **{
                "group.id": group_id(self._settings, self._survey),
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "partition.assignment.strategy": "cooperative-sticky",
                "topic.metadata.refresh.interval.ms": refresh,
                "max.poll.interval.ms": 600_000,
                "session.timeout.ms": 10_000,
                "fetch.message.max.bytes": 8 * 1024 * 1024,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 32 * 1024,
                "on_commit": self._committed,
            },
        )

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work until ``stopped`` says so; then finish what is in flight, as far as that is quick."""
        self._patience.until(self._books.prepare, stopped)
        log.info("reading %s as %s", self._pattern, group_id(self._settings, self._survey))
        self._consumer.subscribe([self._pattern], on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not stopped():
                self._step()
            self._drain()
        finally:
            self._consumer.close()
            self._dispatcher.close()
            self._spool.close()

    def _step(self) -> None:
        self._collect()
        self._send()
        self._steer()
        self._take()
        self._cut()
        self._commit()
        self._books.report_if_due(self._state)

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while len(self._dispatcher) and time.monotonic() < deadline:
            self._collect()
            time.sleep(POLL_SECONDS)
        self._commit(at_once=True)
        self._books.report(self._state())

    # From Kafka to tickets

    @property
    def _room(self) -> bool:
        """Whether another batch may be taken from Kafka."""
        batches = len(self._dispatcher) + len(self._waiting)
        size = sum(ticket.size for _, ticket in self._waiting) + self._dispatcher.size
        return batches < self._limits.in_flight and size < self._limits.in_flight_bytes and not self._patience.waiting

    def _steer(self) -> None:
        """Pause all assigned partitions while there is no room, resume them when there is.

        A partition that is lost while it is paused is still paused when it is assigned again, so each new one is told.
        """
        assigned = frozenset((partition.topic, partition.partition) for partition in self._consumer.assignment())
        wanted = frozenset() if self._room else assigned
        pause, resume = wanted - self._paused, assigned - wanted - self._flowing
        if pause:
            self._consumer.pause([TopicPartition(*key) for key in pause])
        if resume:
            self._consumer.resume([TopicPartition(*key) for key in resume])
        self._paused, self._flowing = wanted, assigned - wanted

    def _take(self) -> None:
        # At least one: a consumer that does not ask is taken for dead.
        wanted = max(1, self._limits.batch_size - len(self._buffer))
        for message in self._consumer.consume(wanted, POLL_SECONDS):
            error = message.error()
            if error is not None:
                self._kafka_says(error)
                continue
            if not self._buffer:
                self._first_at = time.monotonic()
            packet = spool.packet_of(message)
            self._buffer.append(packet)
            self._buffered += len(packet.value)
            if self._buffered >= self._limits.batch_bytes:
                self._cut()

    def _kafka_says(self, error: KafkaError) -> None:
        """Note an event of the Kafka client; it reconnects by itself unless the error is fatal."""
        if error.fatal():
            raise KafkaException(error)
        if error.code() != KafkaError._PARTITION_EOF:
            log.warning("Kafka: %s", error.str())
            self._books.trouble = f"Kafka: {error.str()}"

    def _cut(self) -> None:
        """Make a batch of what is buffered if it is full or old: all the sooner, the less the workers have to do."""
        if not self._buffer:
            return
        full = len(self._buffer) >= self._limits.batch_size or self._buffered >= self._limits.batch_bytes
        if not full and time.monotonic() - self._first_at < self._batch_age:
            return
        try:
            ticket = self._enqueue(self._buffer)
        except OSError as error:  # the disk is full, say: the packets stay in the buffer, and in Kafka
            log.warning("a batch can't be spooled: %s", error)
            self._books.trouble = f"the spool {self._settings.spool}: {error.strerror}"
            self._patience.failed(error)
            return
        self._ledger.take(self._number, ticket.spans)
        self._buffer, self._buffered = [], 0

    @property
    def _batch_age(self) -> float:
        """Seconds that a batch may take to fill now.

        One that is sent while all workers are busy only waits elsewhere, and takes in no more alerts; so it is sent
        when one of them is free. That makes batches as large as the load asks for.
        """
        batches = len(self._dispatcher) + len(self._waiting)
        if not batches:
            return 0.0
        if batches >= self._most:  # it could not be sent: better one large batch than some small ones
            return math.inf
        spare = batches < self._settings.dask.workers
        return self._limits.spare_age_seconds if spare else self._limits.batch_age_seconds

    def _enqueue(self, packets: Sequence[Packet]) -> Ticket:
        ticket = self._spool.write(packets)
        self._number += 1
        self._waiting.append((self._number, ticket))
        return ticket

    # To Dask and back

    @property
    def _most(self) -> int:
        """How many batches may be in flight: while other surveys' alerts flow, too, a worker is left to them.

        Else one survey whose batches take long would hold all of them, be it for a filter at its time limit.
        """
        dask = self._settings.dask
        if not dask.is_embedded or not self._books.neighbours.flow:
            return self._limits.in_flight
        return max(1, min(self._limits.in_flight, dask.workers * dask.threads_per_worker - 1))

    def _send(self) -> None:
        while self._waiting and not self._patience.waiting and len(self._dispatcher) < self._most:
            number, ticket = self._waiting[0]
            # An accused batch flies alone, and while there is doubt one batch shows whether the trouble is over.
            alone = number in self._accused or self._accused_flies or self._patience.doubtful
            if alone and len(self._dispatcher):
                return
            try:
                self._dispatcher.submit(number, ticket)
            except ClusterLost as error:
                self._patience.failed(error)
                self._books.trouble = str(error)
                return
            self._waiting.popleft()
            self._accused_flies = number in self._accused

    def _collect(self) -> None:
        for finished in self._dispatcher.collect():
            if finished.report is not None:
                self._patience.succeeded()
                self._books.count(finished.report)
                self._done(finished.number, finished.ticket)
            elif isinstance(finished.error, KilledWorker):
                self._suspect(finished)
            else:
                self._again(finished)

    def _again(self, finished: Finished[Ticket]) -> None:
        """Keep a batch that could not be processed through no fault of its own, and wait before the next try."""
        reason = f"{type(finished.error).__name__}: {finished.error}"[:500]
        log.warning("batch %s has to wait: %s", finished.number, reason)
        self._books.trouble = reason
        self._patience.failed(finished.error)
        self._waiting.appendleft((finished.number, finished.ticket))

    def _done(self, number: int, ticket: Ticket) -> None:
        self._spool.remove(ticket)
        self._accused.discard(number)
        whole, parts = self._parts.pop(number, (number, set()))
        parts.discard(number)
        if not parts:
            self._ledger.finish(whole)

    def _suspect(self, finished: Finished[Ticket]) -> None:
        """Find the packet that kills workers, and refuse it.

        Dask accuses everything that was on a worker when it died. So an accused batch runs again with nothing beside
        it; if it kills again its packets run one by one, and the one that still does is guilty.
        """
        number, ticket = finished.number, finished.ticket
        if number not in self._accused:
            log.warning("a worker died with batch %s: it runs again alone", number)
            self._accused.add(number)
            self._waiting.append((number, ticket))
            return
        packets = spool.read(ticket, self._settings)
        if len(packets) > 1:
            log.warning("batch %s kills workers: its %s packets run one by one", number, len(packets))
            self._split(number, ticket, packets)
        elif self._books.refuse(packets[0], "workers die on it"):
            log.warning("a packet kills workers and is refused: %s", ticket.spans)
            self._done(number, ticket)
        else:
            self._again(finished)

    def _split(self, number: int, ticket: Ticket, packets: Sequence[Packet]) -> None:
        self._spool.remove(ticket)
        self._accused.discard(number)
        parts: set[int] = set()
        for packet in packets:
            self._enqueue([packet])
            parts.add(self._number)
            self._accused.add(self._number)
            self._parts[self._number] = (number, parts)

    # Offsets

    def _commit(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() - self._committed_at < COMMIT_SECONDS:
            return
        self._committed_at = time.monotonic()
        moved = self._ledger.commitable()
        self._offsets |= moved
        chosen = self._offsets if self._commit_failed else moved
        if not chosen:
            return
        self._commit_failed = False
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in chosen.items()]
        try:
            if at_once:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._committed(error.args[0], [])

    def _committed(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        """Try again with the next commit what Kafka did not take; until then a restart would only repeat work."""
        if error is not None:
            log.warning("offsets could not be committed: %s", error.str())
            self._commit_failed = True

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(at_once=True)
        self._lost(_, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        keys = [(partition.topic, partition.partition) for partition in partitions]
        log.info("no longer ours: %s", keys)
        self._ledger.forget(keys)
        self._paused -= frozenset(keys)
        self._flowing -= frozenset(keys)
        for key in keys:
            self._offsets.pop(key, None)
        # What is buffered of them is read again by whoever has them now. Committing it later could jump over a batch
        # that is still in work.
        self._buffer = [packet for packet in self._buffer if (packet.topic, packet.partition) not in keys]
        self._buffered = sum(len(packet.value) for packet in self._buffer)

    def _state(self) -> dict[str, Any]:
        assigned = self._consumer.assignment()
        return {
            "pattern": self._pattern,
            "topics": sorted({partition.topic for partition in assigned}),
            "partitions": len(assigned),
            "in_flight": len(self._dispatcher),
            "in_flight_bytes": self._dispatcher.size,
            "waiting": len(self._waiting),
            "paused": bool(self._paused),
            "trouble": self._books.trouble if self._patience.doubtful else None,
        }


def run(settings: Settings, survey: str, nights: Sequence[date] = ()) -> None:
    """Run the broker of one survey until SIGTERM or an interrupt.

    Parameters
    ----------
    settings
        The instance's settings.
    survey
        Name of the survey.
    nights
        The nights to read; none means all.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    broker = AlertBroker(settings, get(survey), [f"{night:%Y%m%d}" for night in nights])
    garbage.settle()
    broker.run(stop.is_set)
