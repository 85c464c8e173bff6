"""Requests of a kind that come while earlier ones are answered wait for those, and are then answered together.

Nobody waits for others to come: a request that comes alone is answered at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)
Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Gathering(Generic[Kind, Key, Answer]):
    """Brings requests together.

    Parameters
    ----------
    most
        Keys that are answered together at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Kind, dict[Key, list[asyncio.Future[Answer]]]] = {}
        self._tasks: dict[Kind, asyncio.Task[None]] = {}

    async def ask(
        self, kind: Kind, key: Key, answer: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]]
    ) -> Answer:
        """Get the answer for a key.

        Parameters
        ----------
        kind
            What requests have in common that are answered together.
        answer
            Gives each of several keys its answer, in whatever way all requests of the kind do. What it raises is
            raised wherever one of them is waited for.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, {}).setdefault(key, []).append(future)
        if kind not in self._tasks:
            self._tasks[kind] = asyncio.create_task(self._answer(kind, answer))
        return await future

    async def _answer(self, kind: Kind, answer: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]]) -> None:
        """Answer what waits, until nothing does."""
        try:
            while waiting := self._waiting.pop(kind, None):
                if len(waiting) > self._most:
                    rest = list(waiting)[self._most :]
                    self._waiting[kind] = {key: waiting.pop(key) for key in rest}
                try:
                    given = await answer(list(waiting))
                    answers = {key: given[key] for key in waiting}
                except Exception as error:  # noqa: BLE001  # whatever it is, it is raised where they wait for it
                    for future in _open(waiting):
                        future.set_exception(error)
                else:
                    for key, given_to in waiting.items():
                        for future in _open({key: given_to}):
                            future.set_result(answers[key])
        finally:
            del self._tasks[kind]


def _open(waiting: Mapping[Key, Sequence[asyncio.Future[Answer]]]) -> list[asyncio.Future[Answer]]:
    return [future for futures in waiting.values() for future in futures if not future.done()]
