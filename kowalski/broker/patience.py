"""Waiting for something that Kowalski depends on: longer after each failure, and one try at a time until it works."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from pymongo.errors import PyMongoError

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 10.0

log = logging.getLogger(__name__)


class Patience:
    """Knows whether a dependency has failed lately and when to try again."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._until = 0.0

    @property
    def waiting(self) -> bool:
        """Whether it is too early for the next try."""
        return time.monotonic() < self._until

    @property
    def doubtful(self) -> bool:
        """Whether nothing has succeeded since the last failure."""
        return self._delay > 0.0

    def failed(self, _: BaseException | None) -> None:
        """Note a failure; several during one wait count once."""
        if not self.waiting:
            self._delay = min(LONGEST_SECONDS, max(FIRST_SECONDS, 2.0 * self._delay))
            self._until = time.monotonic() + self._delay

    def succeeded(self) -> None:
        """Note that it works again."""
        self._delay = self._until = 0.0

    def until(self, action: Callable[[], None], stopped: Callable[[], bool]) -> None:
        """Repeat ``action`` until MongoDB and Kafka let it succeed, or ``stopped`` says so."""
        while not stopped():
            try:
                action()
            except (PyMongoError, KafkaException) as error:
                log.warning("waiting: %s", error)
                self.failed(error)
                while self.waiting and not stopped():
                    time.sleep(0.1)
            else:
                self.succeeded()
                return
