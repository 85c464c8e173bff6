"""The courier: works the outbox off into an outlet, in a process of its own.

Each object has a lane: its alerts go one after the other, in order of time; objects go in parallel. Everything the
courier knows is in the outbox, so it can end at any moment, in whatever way, and go on later.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, WTimeoutError

from kowalski.archive import figures, reports
from kowalski.archive.client import Document, async_data_database, async_system_database, connect_async
from kowalski.archive.queue import LONGEST, Queue
from kowalski.config import Settings
from kowalski.config.outlets import OutletSettings
from kowalski.courier import metrics
from kowalski.courier.breaker import Breaker, backoff
from kowalski.courier.errors import NotYet, Refused, Stopped, TryAgain
from kowalski.courier.lease import Lease
from kowalski.courier.outlet import Outlet
from kowalski.distribution.outlet import KafkaOutlet
from kowalski.skyportal.outlet import SkyPortalOutlet

log = logging.getLogger(__name__)

SERVICE = "courier"
"""Its reports are called so, with the outlet's name."""
IDLE = 0.5
"""How long a new document waits at most until it is seen, seconds."""
REPORT_EVERY = 3.0
"""Time between reports, seconds."""
ARCHIVE_AWAY = (ConnectionFailure, WTimeoutError)
"""MongoDB is away or can't make a write durable: nothing is wrong with the document at hand."""


class Courier:
    """Takes documents from the outbox to an outlet until it is stopped.

    Parameters
    ----------
    settings
        How many lanes there are, and how long to wait after failures.
    outlet
        Where to.
    system
        The system database.
    stopping
        Set when the courier is to end; the outlet looks at it between calls.
    """

    def __init__(
        self, settings: OutletSettings, outlet: Outlet, system: AsyncDatabase[Document], stopping: asyncio.Event
    ) -> None:
        self._settings = settings
        self._outlet = outlet
        self._system = system
        self._queue = Queue(system, outlet.name, max(LONGEST, timedelta(seconds=settings.longest_wait)))
        self._lease = Lease(system, outlet.name)
        self._stopping = stopping
        self._breaker = Breaker(
            self._settings.backoff_seconds, self._settings.backoff_max_seconds, self._settings.lanes
        )
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._delivered = 0
        self._last_error: str | None = None

    def stop(self) -> None:
        """Finish the calls at hand, then end."""
        self._stopping.set()

    async def run(self) -> None:
        """Deliver until `stop` is called."""
        reporter = asyncio.create_task(self._report_regularly())
        attendant = asyncio.create_task(self._outlet.attend())
        try:
            await self._queue_ready()
            while not self._stopping.is_set():
                await self._fill_lanes()
                await self._wait()
            await asyncio.gather(*self._lanes.values())
        finally:
            for task in (reporter, attendant, *self._lanes.values()):
                task.cancel()
        await self._report()
        await self._release()

    async def _queue_ready(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._queue.ensure_indexes()
            except ARCHIVE_AWAY as error:
                self._note(f"MongoDB: {error}")
                await asyncio.sleep(IDLE)
            else:
                return

    async def _fill_lanes(self) -> None:
        """Start a lane for each object that has something due, as far as there is room."""
        if not await self._may_work():
            return
        room = (1 if self._breaker.is_trying else self._settings.lanes) - len(self._lanes)
        if room <= 0 or self._breaker.pause:
            return
        try:
            documents = await self._queue.due(datetime.now(UTC), set(self._lanes), room)
        except ARCHIVE_AWAY as error:
            self._note(f"MongoDB: {error}")
            return
        for document in documents:
            self._lanes[document["objectId"]] = asyncio.create_task(self._lane(document))

    async def _may_work(self) -> bool:
        """Whether no other courier works on this outbox; it is enough that one does."""
        if self._lease.is_held:
            return True
        try:
            if await self._lease.hold():
                return True
        except ARCHIVE_AWAY as error:
            self._note(f"MongoDB: {error}")
        else:
            self._note(f"another courier is at work: {self._lease.holder}")
        return False

    async def _release(self) -> None:
        try:
            await self._lease.release()
        except ARCHIVE_AWAY as error:  # then it ends by itself
            self._note(f"MongoDB: {error}")

    async def _wait(self) -> None:
        """Wait until a lane has ended or it is time to look again; a lane that failed unexpectedly ends the courier."""
        if not self._lanes:
            await self._sleep(min(IDLE, self._breaker.pause) or IDLE)
            return
        await asyncio.wait(self._lanes.values(), timeout=IDLE, return_when=asyncio.FIRST_COMPLETED)
        for object_id, task in list(self._lanes.items()):
            if task.done():
                del self._lanes[object_id]
                task.result()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _lane(self, document: Document) -> None:
        """Deliver what is due of one object, in order."""
        survey, object_id = document["_id"]["survey"], document["objectId"]
        following: Document | None = document
        try:
            while following is not None and await self._deliver(following):
                following = await self._queue.head(survey, object_id)
        except Stopped:
            return
        except ARCHIVE_AWAY as error:
            self._note(f"MongoDB: {error}")

    async def _deliver(self, document: Document) -> bool:
        """Bring one document as far as possible; returns whether the object's next one may follow."""
        try:
            refused = await self._outlet.deliver(document, self._breaker.answered)
        except TryAgain as error:
            await self._postpone(document, error)
            return False
        except NotYet as error:
            self._note(str(error))
            await self._queue.wait(document, error.until, str(error))
            return False
        except Refused as error:
            self._note(f"alert {document['_id']['candid']}: {error}")
            await self._queue.fail(document["_id"], str(error))
            return True
        except (LookupError, TypeError, ValueError) as error:
            # No call can be made of its content. Whatever that is, the rest of the outbox must go on.
            log.exception("outbox document %s can't be delivered", document["_id"])
            await self._queue.fail(document["_id"], f"it can't be delivered: {type(error).__name__}: {error}")
            return True
        now = datetime.now(UTC)
        if await self._queue.finish(document, refused, now, self._settings.keep_days):
            if not refused:
                self._delivered += 1
                metrics.DELIVERED.labels(self._outlet.name).inc()
            for step, reason in refused.items():
                self._note(f"alert {document['_id']['candid']}, {step}: {reason}")
        return True

    async def _postpone(self, document: Document, error: TryAgain) -> None:
        self._note(str(error))
        self._breaker.failed(away=error.away, at_work=len(self._lanes), pause=error.pause)
        own = 0.0
        if not (error.away and self._breaker.pause):
            longest = self._settings.backoff_max_seconds
            own = backoff(document["attempts"] + 1, self._settings.backoff_seconds, longest)
        until = datetime.now(UTC) + timedelta(seconds=max(own, error.pause or 0.0, self._breaker.pause))
        await self._queue.postpone(document, until, str(error))

    def _note(self, message: str) -> None:
        if message != self._last_error:
            log.warning("%s", message)
        self._last_error = message

    async def _report_regularly(self) -> None:
        while True:
            await self._report()
            await self._renew()
            await asyncio.sleep(REPORT_EVERY)

    async def _renew(self) -> None:
        if self._lease.is_held:
            try:
                await self._lease.hold()
            except ARCHIVE_AWAY as error:
                self._note(f"MongoDB: {error}")

    async def _report(self) -> None:
        try:
            backlog = await self._queue.backlog()
            oldest = backlog["oldest"]
            fields = backlog | {
                "oldest_seconds": None if oldest is None else (datetime.now(UTC) - oldest).total_seconds(),
                "delivered": self._delivered,
                "away": self._breaker.is_trying,
                "last_error": self._last_error,
            }
            metrics.AWAY.labels(self._outlet.name).set(self._breaker.is_trying)
            await reports.put_async(self._system, f"{SERVICE}:{self._outlet.name}", **fields)
            await figures.put_async(self._system, SERVICE, generate_latest().decode())
        except ARCHIVE_AWAY as error:
            self._note(f"MongoDB: {error}")


async def deliver(settings: Settings) -> None:
    """Run a courier for each outlet that is on, until the process is asked to end (SIGTERM or SIGINT)."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopping.set)
    async with connect_async(settings) as mongo:
        data, system = async_data_database(mongo, settings), async_system_database(mongo, settings)
        outlets: list[tuple[OutletSettings, Outlet]] = []
        if settings.skyportal.enabled:
            portal = SkyPortalOutlet(settings.skyportal, data, system, stopping.is_set)
            outlets.append((settings.skyportal, portal))
        if settings.distribution.enabled:
            outlets.append((settings.distribution, KafkaOutlet(settings, system, stopping.is_set)))
        try:
            async with asyncio.TaskGroup() as couriers:
                for own, outlet in outlets:
                    couriers.create_task(Courier(own, outlet, system, stopping).run())
        finally:
            for _, outlet in outlets:
                await outlet.aclose()


def main(settings: Settings) -> None:
    """Deliver what passes, until the process is asked to end; returns at once if there is nowhere to deliver it."""
    if not settings.delivers:
        log.warning("skyportal.enabled and distribution.enabled are false: there is nothing to deliver")
        return
    asyncio.run(deliver(settings))
