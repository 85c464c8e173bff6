"""A courier in this process, for tests and trials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from kowalski.archive.client import async_data_database, async_system_database, connect_async
from kowalski.config import Settings
from kowalski.config.outlets import OutletName
from kowalski.courier.courier import Courier
from kowalski.courier.outlet import Outlet
from kowalski.distribution.outlet import KafkaOutlet
from kowalski.skyportal.outlet import SkyPortalOutlet

PATIENCE = 60.0
"""How long `until` waits, seconds."""


@asynccontextmanager
async def running(settings: Settings, outlet: OutletName = "skyportal") -> AsyncIterator[Courier]:
    """Let the courier of an outlet work until the block ends, then end it in good order."""
    stopping = asyncio.Event()
    async with connect_async(settings) as client:
        data, system = async_data_database(client, settings), async_system_database(client, settings)
        own, place = settings.outlets[outlet], _open(settings, outlet, data, system, stopping)
        courier = Courier(own, place, system, stopping)
        task = asyncio.create_task(courier.run())
        try:
            yield courier
        finally:
            courier.stop()
            await task
            await place.aclose()


def _open(settings: Settings, outlet: OutletName, data: Any, system: Any, stopping: asyncio.Event) -> Outlet:
    if outlet == "kafka":
        return KafkaOutlet(settings, system, stopping.is_set)
    return SkyPortalOutlet(settings.skyportal, data, system, stopping.is_set)


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for something to become true.

    Raises
    ------
    TimeoutError
        If it does not.
    """
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.05)
