"""SkyPortal as an outlet of the courier."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive.client import Document
from kowalski.archive.queue import Queue
from kowalski.config.outlets import SkyPortal as SkyPortalSettings
from kowalski.courier.metrics import observer
from kowalski.courier.progress import Desk, Progress
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.delivery import Delivery, Tools
from kowalski.skyportal.directory import Directory
from kowalski.skyportal.followups import allocations
from kowalski.skyportal.material import Material
from kowalski.skyportal.reconciliation import Reconciler


class SkyPortalOutlet:
    """Brings passes to one SkyPortal: an `kowalski.courier.outlet.Outlet`.

    Parameters
    ----------
    settings
        Where it is, and how long to wait for what.
    data, system
        The two databases.
    stopping
        Whether the courier is to end.
    """

    name = "skyportal"

    def __init__(
        self,
        settings: SkyPortalSettings,
        data: AsyncDatabase[Document],
        system: AsyncDatabase[Document],
        stopping: Callable[[], bool],
    ) -> None:
        self._skyportal = SkyPortal(settings, observer(self.name))
        self._tools = Tools(self._skyportal, Directory(self._skyportal), Material(data), allocations(), system)
        self._reconciler = Reconciler(self._skyportal, system, settings.reconcile_seconds)
        self._desk = Desk(Queue(system), stopping, settings.settle_seconds)

    async def deliver(self, document: Document, answered: Callable[[], None]) -> Mapping[str, str]:
        """See `kowalski.courier.outlet.Outlet.deliver`."""
        delivery = Delivery(self._tools, Progress(self._desk, document, answered))
        await delivery.run()
        return delivery.refused

    async def attend(self) -> None:
        """Keep track of what SkyPortal has: see `kowalski.skyportal.reconciliation`."""
        await self._reconciler.run()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._skyportal.aclose()
