"""Looking through SkyPortal's sources, to know of those that others have made: all of them once, then what is new."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, WTimeoutError

from kowalski.archive import known_objects
from kowalski.archive.client import Document
from kowalski.courier.errors import DeliveryError
from kowalski.skyportal.client import SkyPortal

OVERLAP = timedelta(minutes=5)
"""How much of the time before is looked through again: clocks differ, and transactions take a while."""

log = logging.getLogger(__name__)


class Reconciler:
    """Keeps the known objects (`kowalski.archive.known_objects`) as fresh as ``skyportal.reconcile_seconds`` says."""

    def __init__(self, skyportal: SkyPortal, system: AsyncDatabase[Document], every: float) -> None:
        self._skyportal, self._system, self._every = skyportal, system, every

    async def run(self) -> None:
        """Look through the sources again and again, until cancelled; ``status`` shows how long ago that worked."""
        while True:
            try:
                await self.look_through()
            except DeliveryError as error:
                log.warning("SkyPortal's sources can't be listed: %s", error)
            except (ConnectionFailure, WTimeoutError) as error:
                log.warning("MongoDB: %s", error)
            await asyncio.sleep(self._every)

    async def look_through(self) -> None:
        """Learn of the sources that were made or changed since the last time.

        Raises
        ------
        DeliveryError
            If SkyPortal does not list them; what came before that is kept, and the next time begins where this one did.
        """
        now = datetime.now(UTC)
        last = await known_objects.looked_through(self._system)
        if last is not None and last > now:  # a clock was set: what lies between is not known
            last = None
        async for names in self._skyportal.sources_since(None if last is None else last - OVERLAP):
            await known_objects.add(self._system, names)
        await known_objects.look_through(self._system, now)
