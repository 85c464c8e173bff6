"""Kafka as an outlet of the courier: a topic per filter, messages keyed by the object, so that each keeps its order.

A message is recorded as sent when Kafka has acknowledged it. What a crash or a lost answer keeps from being recorded is
sent again: readers know it by its header ``id``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive.client import Document
from kowalski.archive.queue import Queue
from kowalski.broker.kafka import producer_config
from kowalski.broker.stream import StreamError, ensure_topic
from kowalski.config import Settings
from kowalski.courier.errors import Refused, TryAgain
from kowalski.courier.metrics import observer
from kowalski.courier.progress import Desk, Progress, passes_to_deliver
from kowalski.distribution import messages
from kowalski.distribution.messages import Pass

FLUSH_MARGIN = 5.0
"""Seconds beyond the time-out of a message in which Kafka's client tells that it has given up."""
REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._INVALID_ARG, KafkaError.INVALID_RECORD})
"""What no repetition helps against."""

log = logging.getLogger(__name__)


class KafkaOutlet:
    """Brings passes onto topics: an `kowalski.courier.outlet.Outlet`.

    Parameters
    ----------
    settings
        The instance's settings: where Kafka is, and ``distribution``.
    system
        The system database.
    stopping
        Whether the courier is to end.
    """

    name = "kafka"

    def __init__(self, settings: Settings, system: AsyncDatabase[Document], stopping: Callable[[], bool]) -> None:
        self._settings = settings
        self._own = settings.distribution
        self._desk = Desk(Queue(system, self.name), stopping, self._own.timeout_seconds)
        self._topics: set[str] = set()
        self._observe = observer(self.name)
        options = {
            "compression.type": "zstd",
            "linger.ms": 5,
            "delivery.timeout.ms": int(self._own.timeout_seconds * 1000),
        }
        self._producer = Producer(producer_config(settings, **options))

    async def deliver(self, document: Document, answered: Callable[[], None]) -> Mapping[str, str]:
        """See `kowalski.courier.outlet.Outlet.deliver`."""
        progress = Progress(self._desk, document, answered)
        for key, one in passes_to_deliver(document).items():
            await progress.do(f"message:{key}", partial(self._send, messages.of(document, one)))
        return progress.refused

    async def attend(self) -> None:
        """There is nothing to do beside."""

    async def aclose(self) -> None:
        """Send what is on its way."""
        await asyncio.to_thread(self._producer.flush, self._own.timeout_seconds)

    async def _send(self, message: Pass) -> None:
        start, outcome = time.monotonic(), "ok"
        try:
            await asyncio.to_thread(self._produce, message)
        except (Refused, TryAgain) as error:
            outcome = type(error).__name__
            raise
        finally:
            self._observe("produce", outcome, time.monotonic() - start)

    def _produce(self, message: Pass) -> None:
        """Send one message and wait until Kafka has it.

        Raises
        ------
        TryAgain, Refused
            If it does not take it now, or never.
        """
        topic = self._topic(message)
        ends: list[KafkaError | None] = []

        def ended(error: KafkaError | None, _: Message) -> None:
            ends.append(error)

        try:
            self._producer.produce(
                topic,
                messages.encode(message, self._own.format),
                key=message.objectId,
                headers=messages.headers(message, self._own.format),
                on_delivery=ended,
            )
        except KafkaException as error:
            raise _judged(topic, error.args[0]) from error
        except BufferError as error:
            raise TryAgain(f"topic {topic}: {error}", away=True) from error
        self._producer.flush(self._own.timeout_seconds + FLUSH_MARGIN)
        if not ends:
            raise TryAgain(f"topic {topic}: Kafka does not answer", away=True, lost=True)
        if ends[0] is not None:
            raise _judged(topic, ends[0])

    def _topic(self, message: Pass) -> str:
        facts = {"survey": message.survey.lower(), "group_id": message.group_id, "filter_id": message.filter_id}
        topic = self._own.topic.format(**facts)
        if topic not in self._topics:
            try:
                ensure_topic(self._settings, topic, patience=self._own.timeout_seconds)
            except StreamError as error:
                raise TryAgain(str(error), away=True) from error
            self._topics.add(topic)
        return topic


def _judged(topic: str, error: KafkaError) -> TryAgain | Refused:
    text = f"topic {topic}: {error.str()}"
    return Refused(text) if error.code() in REFUSALS else TryAgain(text, away=True, lost=True)
