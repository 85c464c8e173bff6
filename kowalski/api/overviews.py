"""What the status page shows, gathered at most every few seconds however many look at it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from kowalski.config import Settings

if TYPE_CHECKING:
    from kowalski.runtime.overview import Overview


class Overviews:
    """Keeps the last overview, and gathers the next one in a thread: services that are away take seconds to say so."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="overview")
        self._last: Overview | None = None
        self._expires = 0.0
        self._gathering: asyncio.Future[Overview] | None = None

    async def latest(self) -> Overview:
        """Give an overview that is no older than ``status.cache_seconds``; all who ask meanwhile get the same."""
        if self._last is not None and time.monotonic() < self._expires:
            return self._last
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.get_running_loop().run_in_executor(self._thread, self._gather)
        # One who leaves must not take it away from the others.
        self._last = await asyncio.shield(self._gathering)
        return self._last

    def _gather(self) -> Overview:
        from kowalski.runtime.overview import gather_overview  # brings Dask's library along, which few processes need

        found = gather_overview(self._settings)
        self._expires = time.monotonic() + self._settings.status.cache_seconds
        return found

    def close(self) -> None:
        """Wait for nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
