"""When to leave SkyPortal alone: growing pauses with jitter, and one careful call afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


def backoff(attempt: int, first: float, longest: float, dice: Callable[[], float] = random.random) -> float:
    """Give the pause after failure number ``attempt`` (from 1), seconds: doubling, between a half and all of it."""
    return float(min(longest, first * 2.0 ** min(attempt - 1, 30)) * (0.5 + 0.5 * dice()))


class Breaker:
    """Keeps count of failures in a row that are not one document's own.

    Parameters
    ----------
    first, longest
        The first pause and the longest one, seconds.
    patience
        So many failures in a row, each of a call of its own, count as SkyPortal being away.
    """

    def __init__(
        self, first: float, longest: float, patience: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest, self._patience = first, longest, patience
        self._clock = clock
        self._outages = 0
        self._failures = 0
        self._closed_until = 0.0

    @property
    def is_trying(self) -> bool:
        """Whether nothing has succeeded since SkyPortal was away: then one call at a time is enough."""
        return self._outages > 0

    @property
    def pause(self) -> float:
        """Seconds until calls make sense again."""
        return max(0.0, self._closed_until - self._clock())

    def succeeded(self) -> None:
        """Note that SkyPortal has answered as it should."""
        self._outages = self._failures = 0

    def failed(self, *, away: bool, pause: float | None) -> None:
        """Note a failure; ``pause`` is what SkyPortal asks for, seconds.

        Failures of calls that were on their way when the pause began are part of the same outage.
        """
        self._failures += 1
        if (away or self._failures >= self._patience) and not self.pause:
            self._outages += 1
            self._closed_until = self._clock() + backoff(self._outages, self._first, self._longest)
        if pause is not None:
            self._closed_until = max(self._closed_until, self._clock() + pause)
