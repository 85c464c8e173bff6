"""Ids and names that SkyPortal has given: looked up when first needed, kept for minutes, failures never kept."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kowalski.courier.errors import NotYet, Refused
from kowalski.skyportal.client import SkyPortal

FRESH = 300.0
"""For how long an answer is used, seconds."""
MISSING = 60.0
"""After how long something that SkyPortal did not have is looked for again, seconds."""


class Directory:
    """What the payloads need to know of a SkyPortal."""

    def __init__(self, skyportal: SkyPortal, clock: Callable[[], float] = time.monotonic) -> None:
        self._skyportal = skyportal
        self._clock = clock
        self._known: dict[str, tuple[float, Any]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def instrument_id(self, name: str) -> int:
        """Find an instrument's id by its name.

        Raises
        ------
        NotYet
            If SkyPortal has no such instrument.
        """
        found = await self._look_up(f"instrument {name}", lambda: self._skyportal.instruments(name))
        if not found:
            raise self._missing(f"instrument {name}")
        return int(found[0].id)

    async def stream_id(self, name: str, words: Sequence[str] = ()) -> int:
        """Find a stream's id by its name or, if there is none of just that name, by words in it (in lower case).

        Raises
        ------
        NotYet
            If SkyPortal has no such stream.
        """
        streams = await self._look_up("streams", self._skyportal.streams)
        alike = [each for each in streams if any(word in (each.name or "").lower() for word in words)]
        for stream in [each for each in streams if each.name == name] + alike:
            return int(stream.id)
        raise self._missing("streams", f"stream {name}")

    async def origin(self, group_id: int, filter_id: int) -> str:
        """Name a filter's annotations: ``<group>:<filter>``.

        Raises
        ------
        Refused
            If the group has no such filter (any more).
        """
        group = await self._look_up(f"group {group_id}", lambda: self._skyportal.group(group_id))
        for one in group.filters:
            if one.id == filter_id:
                return f"{group.shown}:{one.name}"
        self._known.pop(f"group {group_id}", None)
        raise Refused(f"group {group_id} has no filter {filter_id}")

    def _missing(self, key: str, what: str | None = None) -> NotYet:
        """Say that something is missing: it concerns one survey, and must not hold up the others."""
        until, value = self._known[key]
        self._known[key] = min(until, self._clock() + MISSING), value
        return NotYet(f"SkyPortal has no {what or key}", datetime.now(UTC) + timedelta(seconds=MISSING))

    async def _look_up(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        async with self._locks[key]:
            until, value = self._known.get(key, (0.0, None))
            if until <= self._clock():
                value = await ask()
                self._known[key] = (self._clock() + FRESH, value)
            return value
