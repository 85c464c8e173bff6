"""How often somebody may try to log in, and how often a user may ask.

Guessing is held up in three ways, each per minute: attempts from one address on one account; attempts from one address
on accounts to which nobody has ever logged in from there; and attempts on one account from all such addresses. Whoever
has logged in from an address before meets the first limit only, so that neither an attack on their account from
elsewhere nor one from behind their own gateway on others keeps them out. What is refused does not count further.
"""

from __future__ import annotations

from pymongo.asynchronous.database import AsyncDatabase

from kowalski.api.addresses import site
from kowalski.api.errors import ThrottledError
from kowalski.archive import counts, logins
from kowalski.archive.client import Document
from kowalski.archive.counts import Count
from kowalski.config.serving import Server


class Throttle:
    """Counts logins and requests in the system database."""

    def __init__(self, server: Server, system: AsyncDatabase[Document]) -> None:
        self._server = server
        self._system = system

    async def admit(self, account: str, address: str) -> list[Count]:
        """Count an attempt to log in, before it is known how it ends.

        Returns
        -------
        list of Count
            What was counted, for `succeeded`.

        Raises
        ------
        ThrottledError
            If there were too many.
        """
        address = site(address)
        taken = [await self._attempt(self._server.login_attempts_per_minute, "login", address, account)]
        if not await logins.knows(self._system, address, account):
            taken.append(await self._attempt(self._server.login_attempts_per_address, "address", address))
            taken.append(await self._attempt(self._server.login_attempts_per_account, "account", account))
        return taken

    async def succeeded(self, account: str, address: str, taken: list[Count]) -> None:
        """Take back an attempt that was none."""
        await logins.remember(self._system, site(address), account)
        for count in taken:
            await counts.take_back(self._system, count)

    async def ask(self, user: str) -> None:
        """Count a user's request, if there is a limit.

        Raises
        ------
        ThrottledError
            If there were too many.
        """
        limit = self._server.requests_per_minute
        if limit is None:
            return
        count = await counts.add(self._system, "requests", user)
        if count.number > limit:
            raise ThrottledError(f"more than {limit} requests in a minute", count.seconds)

    async def _attempt(self, limit: int, *what: str) -> Count:
        count = await counts.add(self._system, *what)
        if count.number > limit:
            raise ThrottledError("too many attempts to log in", count.seconds)
        return count
