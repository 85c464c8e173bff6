"""One courier at a time works on an outbox: two of them would look, see nothing, and both ask for follow-up."""

from __future__ import annotations

import os
import socket
import time
import uuid
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from kowalski.archive import names
from kowalski.archive.client import Document

SECONDS = 15.0
"""How long a lease lasts that is not renewed: so long a courier on another machine waits for one that has died.

It is whoever waits that measures it, by a clock that nobody sets: a lease that ends at a time of day would end too
early, or a day too late, when a clock is put right.
"""


class Lease:
    """The right to work on an outbox, as long as it is renewed.

    Parameters
    ----------
    system
        The system database.
    name
        Of the outlet whose outbox it is.

    Attributes
    ----------
    holder
        Machine and process that had it when `hold` was last called.
    """

    def __init__(self, system: AsyncDatabase[Document], name: str, seconds: float = SECONDS) -> None:
        self._leases = system[names.LEASES]
        self._name = name
        self._seconds = seconds
        self._me = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
        self._until = 0.0
        self._seen: tuple[str | None, float] = (None, 0.0)
        self.holder = "nobody"

    @property
    def is_held(self) -> bool:
        """Whether it is ours for sure, and for a while."""
        return time.monotonic() < self._until

    async def hold(self) -> bool:
        """Take it if it is free, or renew it; returns whether it is ours."""
        start = time.monotonic()
        known = await self._leases.find_one({"_id": self._name})
        free: Document = {"$in": [{"$ifNull": ["$owner.token", None]}, [None, self._me["token"]]]}
        if known is not None and (self._has_died(known["owner"]) or self._has_ended(known)):
            # unless it has been renewed in this moment
            free = {"$or": [free, {"$eq": [{"$ifNull": ["$renewal", None]}, known.get("renewal")]}]}
        mine = {"owner": self._me, "renewal": uuid.uuid4().hex, "seconds": self._seconds}
        change = {name: {"$cond": [free, {"$literal": value}, f"${name}"]} for name, value in mine.items()}
        try:
            now = await self._leases.find_one_and_update(
                {"_id": self._name}, [{"$set": change}], upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            now = None
        if now is None:  # somebody was faster to take it for the first time
            return False
        self.holder = f"process {now['owner']['pid']} on {now['owner']['host']}"
        ours = bool(now["owner"]["token"] == self._me["token"])
        self._until = start + self._seconds if ours else 0.0
        return ours

    async def release(self) -> None:
        """Let the next one have it at once."""
        self._until = 0.0
        await self._leases.delete_one({"_id": self._name, "owner.token": self._me["token"]})

    def _has_ended(self, known: Document) -> bool:
        """Whether nobody has renewed the lease for as long as it lasts, as far as this process has seen."""
        now, renewal = time.monotonic(), known.get("renewal")
        if renewal != self._seen[0] or not self._seen[1]:
            self._seen = (renewal, now)
        return now - self._seen[1] >= float(known.get("seconds", SECONDS))

    def _has_died(self, owner: dict[str, Any]) -> bool:
        """Whether the owner was a process of this machine that is gone: then nobody needs to wait."""
        if owner["host"] != self._me["host"] or owner["token"] == self._me["token"]:
            return False
        if owner["pid"] == self._me["pid"]:
            return True  # an earlier life of this container: a process does not take a lease twice
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
