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
"""How long a lease lasts that is not renewed: so long a courier on another machine waits for one that has died."""


class Lease:
    """The right to work on an outbox, as long as it is renewed.

    Parameters
    ----------
    system
        The system database; its server's clock decides.
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
        self.holder = "nobody"

    @property
    def is_held(self) -> bool:
        """Whether it is ours for sure, and for a while."""
        return time.monotonic() < self._until

    async def hold(self) -> bool:
        """Take it if it is free, or renew it; returns whether it is ours."""
        start = time.monotonic()
        known = await self._leases.find_one({"_id": self._name})
        gone = [known["owner"]["token"]] if known is not None and self._has_died(known["owner"]) else []
        free = {
            "$or": [
                {"$in": ["$owner.token", [self._me["token"], *gone]]},
                {"$lte": [{"$ifNull": ["$until", 0]}, "$$NOW"]},
            ]
        }
        until = {"$add": ["$$NOW", int(1000 * self._seconds)]}
        change = {
            "owner": {"$cond": [free, {"$literal": self._me}, "$owner"]},
            "until": {"$cond": [free, until, "$until"]},
        }
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
