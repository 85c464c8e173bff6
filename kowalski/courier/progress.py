"""How far the delivery of one outbox document has got: every call is recorded as soon as its end is known."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kowalski.archive.client import Document
from kowalski.archive.queue import Queue
from kowalski.courier.errors import AlreadyThere, DeliveryError, NotYet, Refused, Stopped, TryAgain

Call = Callable[[], Awaitable[Any]]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a delivery writes its progress with.

    Attributes
    ----------
    queue
        The outbox.
    stopping
        Whether the courier is to end.
    settle
        Time-out of a call that must not be made twice, seconds. Its effect may be on its way for as long again.
    begun
        Document and step -> when a call that must not be made twice was begun, or, if that was in an earlier life of
        the courier, when it was first seen to have been: by the monotonic clock, which nobody sets.
    """

    queue: Queue
    stopping: Callable[[], bool]
    settle: float
    begun: dict[tuple[str, str], float] = field(default_factory=dict)


class Progress:
    """The steps of one document.

    A step is done once it is recorded. One that was interrupted is made again, which leaves what making it once leaves;
    for calls of which that is not true there is `once`.

    Parameters
    ----------
    desk
        What to write it with.
    document
        As it was read.
    answered
        Called whenever the other side has taken something, or refused it for good.

    Attributes
    ----------
    document
        Fields that are recorded since it was read are changed here, too.
    refused
        Step -> why it was refused for good, earlier attempts included.
    """

    def __init__(self, desk: Desk, document: Document, answered: Callable[[], None]) -> None:
        self._desk = desk
        self._answered = answered
        self.document = document
        self._done = set(document["steps"])
        self._intents: dict[str, datetime] = dict(document.get("intents") or {})
        self.refused: dict[str, str] = dict(document["refused"])

    def is_left(self, step: str) -> bool:
        """Whether a step is neither done nor refused."""
        return step not in self._done and step not in self.refused

    def is_done(self, step: str) -> bool:
        """Whether a step had success."""
        return step in self._done

    def check(self) -> None:
        """Make sure that calls may be made.

        Raises
        ------
        Stopped
            If the courier is to end.
        """
        if self._desk.stopping():
            raise Stopped

    async def record(self, *steps: str, **fields: Any) -> None:
        """Note steps as done, with further fields of the document."""
        self._moved_on(answered=bool(steps))
        self._done.update(steps)
        for step in steps:
            self._desk.begun.pop(self._key(step), None)
        self.document.update(fields)
        await self._desk.queue.record(self.document["_id"], steps, **fields)

    async def refuse(self, step: str, reason: str) -> None:
        """Note a step as refused for good."""
        self._moved_on(answered=True)
        self.refused[step] = reason
        self._desk.begun.pop(self._key(step), None)
        await self._desk.queue.refuse(self.document["_id"], step, reason)

    async def do(self, step: str, call: Call) -> bool:
        """Make a call that may be repeated, unless its step is done.

        Returns
        -------
        bool
            Whether it had success, now or earlier.
        """
        if self.is_left(step):
            self.check()
            try:
                await call()
            except AlreadyThere:
                await self.record(step)
            except Refused as error:
                await self.refuse(step, str(error))
            else:
                await self.record(step)
        return self.is_done(step)

    def was_begun(self, step: str) -> bool:
        """Whether an earlier attempt has begun the call of `once` and its end is not known.

        Raises
        ------
        NotYet
            If its effect may be on its way.
        """
        if step not in self._intents:
            return False
        begun = self._desk.begun.setdefault(self._key(step), time.monotonic())
        left = begun + 2.0 * self._desk.settle - time.monotonic()
        if left > 0:
            settled = datetime.now(UTC) + timedelta(seconds=left)
            raise NotYet(f"{step}: its answer is lost, its effect may be on its way", settled)
        return True

    async def once(self, step: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make a call that must not be made twice, and keep on record that it was begun.

        The caller has looked before whether an earlier one has had its effect, and records the step afterwards.

        Raises
        ------
        DeliveryError
            As the call does.
        """
        self.check()
        begun = datetime.now(UTC)
        self._intents[step] = begun
        self._desk.begun[self._key(step)] = time.monotonic()
        await self._desk.queue.intend(self.document["_id"], step, begun)
        try:
            return await call()
        except DeliveryError as error:
            if not (isinstance(error, TryAgain) and error.lost):
                await self.forget(step)
            raise

    async def forget(self, step: str) -> None:
        """Note that a call has surely not had its effect."""
        self._intents.pop(step, None)
        self._desk.begun.pop(self._key(step), None)
        await self._desk.queue.forget(self.document["_id"], step)

    def _moved_on(self, *, answered: bool) -> None:
        self.document["attempts"] = 0  # as the outbox counts them: in a row, with nothing recorded in between
        if answered:  # a lookup alone is no sign that anything is taken
            self._answered()

    def _key(self, step: str) -> tuple[str, str]:
        identity = self.document["_id"]
        return f"{identity['survey']} {identity['candid']}", step


def passes_to_deliver(document: Document) -> dict[str, Mapping[str, Any]]:
    """Choose the passes that are to be delivered, by their keys."""
    return {key: one for key, one in document["passes"].items() if one["deliver"]}
