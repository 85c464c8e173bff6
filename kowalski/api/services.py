"""What handlers work with: made once per process, handed to each handler through the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from aiohttp import web
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.api import addresses
from kowalski.api.accounts import Accounts
from kowalski.api.addresses import Network
from kowalski.api.cells import Cells
from kowalski.api.dry_runs import DryRuns
from kowalski.api.gathering import Gathering
from kowalski.api.lookups import Lookups
from kowalski.api.overviews import Overviews
from kowalski.api.passwords import Passwords
from kowalski.api.tokens import Tokens
from kowalski.api.views import Views
from kowalski.archive import audit, counts, filters, logins, skymaps
from kowalski.archive.client import (
    Document,
    Role,
    async_data_database,
    async_system_database,
    connect,
    connect_async,
)
from kowalski.config import Settings

ENCODER_THREADS = 2
CONES = 100
"""Positions that are searched together at most, if they are of several requests."""
KEPT = 1000
"""Collections whose objects are kept; their names come from users."""


@dataclass(frozen=True, slots=True)
class Services:
    """Settings, databases and helpers.

    Attributes
    ----------
    data
        The data database, read only: users' queries run here.
    writable
        The data database for what the API itself changes.
    system
        The system database.
    views
        Those of the data database.
    lookups
        Reads documents by their keys, for many requests at once.
    cells
        Which HEALPix cells catalogs carry.
    cones
        Brings searches around single positions together: `kowalski.api.queries.around`.
    encoder
        Threads in which answers are encoded.
    heavy
        A thread for work of seconds and much memory, which is done one at a time.
    proxies
        Networks whose word about where a request comes from is believed.
    observers
        Networks that may read the metrics.
    observed
        A connection on which they are gathered, in a thread.
    """

    settings: Settings
    data: AsyncDatabase[Document]
    writable: AsyncDatabase[Document]
    system: AsyncDatabase[Document]
    accounts: Accounts
    views: Views
    lookups: Lookups
    cells: Cells
    cones: Gathering[bytes, tuple[float, float], bytes | None]
    encoder: ThreadPoolExecutor
    heavy: ThreadPoolExecutor
    proxies: tuple[Network, ...]
    observers: tuple[Network, ...]
    dry_runs: DryRuns
    overviews: Overviews
    observed: MongoClient[Document]
    _collections: dict[str, AsyncCollection[Document]] = field(default_factory=dict)

    def collection(self, name: str) -> AsyncCollection[Document]:
        """Give a collection of the data database; the driver takes its time to make the object, so a few are kept."""
        found = self._collections.get(name)
        if found is None:
            found = self.data[name]
            if len(self._collections) < KEPT:
                self._collections[name] = found
        return found


SERVICES = web.AppKey("services", Services)


def of(request: web.Request) -> Services:
    """Find the services of the application that got a request."""
    return request.app[SERVICES]


async def provide(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    """Connect, make what the API needs in the system database, and tidy up at the end."""
    reader: AsyncMongoClient[Document] = connect_async(settings, Role.READER)
    writer: AsyncMongoClient[Document] = connect_async(settings, Role.WRITER)
    data, system = async_data_database(reader, settings), async_system_database(writer, settings)
    passwords, encoder = Passwords(), ThreadPoolExecutor(ENCODER_THREADS, thread_name_prefix="encoder")
    dry_runs, overviews = DryRuns(settings), Overviews(settings)
    heavy = ThreadPoolExecutor(1, thread_name_prefix="heavy")
    accounts = Accounts(settings.server, system, passwords, Tokens(settings.server))
    app[SERVICES] = Services(
        settings,
        data,
        async_data_database(writer, settings),
        system,
        accounts,
        Views(data),
        Lookups(settings.database),
        Cells(),
        Gathering(CONES),
        encoder,
        heavy,
        addresses.networks(settings.server.trusted_proxies),
        addresses.networks(settings.server.metrics_networks),
        dry_runs,
        overviews,
        connect(settings, serverSelectionTimeoutMS=2000),
    )
    try:
        await filters.ensure_indexes(system)
        for collection in (audit, counts, logins):
            await collection.ensure_indexes(system)
        await skymaps.ensure_indexes(app[SERVICES].writable)
        await accounts.ensure_admin()
        yield
    finally:
        dry_runs.close()
        overviews.close()
        app[SERVICES].observed.close()
        passwords.close()
        encoder.shutdown(wait=False)
        heavy.shutdown(wait=False, cancel_futures=True)
        await reader.close()
        await writer.close()
