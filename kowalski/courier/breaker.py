"""When to leave an outlet alone: growing pauses with jitter, and one careful call afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


def backoff(attempt: int, first: float, longest: float, dice: Callable[[], float] = random.random) -> float:
    """Give the pause after failure number ``attempt`` (from 1), seconds: doubling, between a half and all of it."""
    return float(min(longest, first * 2.0 ** min(attempt - 1, 30)) * (0.5 + 0.5 * dice()))


class Breaker:
    """Tells an outlet that is away from calls that fail, as some always do: by failures in a row.

    Parameters
    ----------
    first, longest
        The first pause and the longest one, seconds.
    patience
        So many failures in a row count as an outage, even if each might be its own document's fault.
    """

    def __init__(
        self, first: float, longest: float, patience: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest, self._patience = first, longest, patience
        self._clock = clock
        self._outages = 0
        self._failures = 0
        self._closed_until = self._asked_until = 0.0

    @property
    def is_trying(self) -> bool:
        """Whether nothing has been answered since the outlet was away: then one call at a time is enough."""
        return self._outages > 0

    @property
    def pause(self) -> float:
        """Seconds until calls make sense again."""
        return max(0.0, max(self._closed_until, self._asked_until) - self._clock())

    def answered(self) -> None:
        """Note a sign of life: a call was taken, or refused for good."""
        self._outages = self._failures = 0
        self._closed_until = 0.0

    def failed(self, *, away: bool, at_work: int, pause: float | None) -> None:
        """Note a failure.

        Parameters
        ----------
        away
            Whether it is surely not the document's fault. Then as many in a row as there are lanes make an outage:
            where only a part of all calls gets lost, some lane has an answer in between. While it is tried whether the
            outlet is back, one failure is enough.
        at_work
            How many lanes there are now. Those that fail after the pause has begun are part of the same outage.
        pause
            What the outlet asks for, seconds.
        """
        self._failures += 1
        enough = self._patience
        if away:
            enough = 1 if self.is_trying else min(at_work, self._patience)
        if self._failures >= enough and not self.pause:
            self._outages += 1
            self._closed_until = self._clock() + backoff(self._outages, self._first, self._longest)
        if pause is not None:
            self._asked_until = max(self._asked_until, self._clock() + pause)
