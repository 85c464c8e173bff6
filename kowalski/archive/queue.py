"""The courier's view of the outbox: what to do next, and how far it has got."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.archive.outbox import INDEXES, State

LONGEST = timedelta(minutes=10)
"""Nothing waits longer for its next attempt."""


class Queue:
    """Reads and moves on the documents of an outlet's outbox, one object after the other.

    Parameters
    ----------
    system
        The system database.
    outlet
        Whose outbox it is.
    longest
        No document was ever told to wait longer than that. One whose next attempt is further away was written, or is
        being read, while a clock was wrong, and is due at once: else it would wait until the clock is there.
    """

    def __init__(
        self, system: AsyncDatabase[Document], outlet: str = "skyportal", longest: timedelta = LONGEST
    ) -> None:
        self._outbox: AsyncCollection[Document] = system[names.OUTBOXES[outlet]]
        self._longest = longest

    async def ensure_indexes(self) -> None:
        """Make the outbox's indexes where they are missing."""
        await self._outbox.create_indexes(list(INDEXES))

    async def due(self, now: datetime, busy: Collection[str], wanted: int) -> list[Document]:
        """Find pending documents whose time has come, longest waiting first, one per object.

        Parameters
        ----------
        now
            The time it is (UTC).
        busy
            Object ids that are being worked on.
        wanted
            How many objects to find at most.

        Returns
        -------
        list
            For each object the document that is next in its order (by jd, then by age); objects whose next
            document waits for another attempt are left out.
        """
        moments = [{"next_attempt_at": {"$lte": now}}, {"next_attempt_at": {"$gt": now + self._longest}}]
        ready = {"state": State.PENDING.value, "$or": moments, "objectId": {"$nin": list(busy)}}
        cursor = self._outbox.find(ready, {"objectId": 1}).sort("next_attempt_at", ASCENDING).limit(4 * wanted)
        chosen: dict[str, Document] = {}
        async for found in cursor:
            survey, object_id = found["_id"]["survey"], found["objectId"]
            if object_id in chosen:
                continue
            head = await self.head(survey, object_id)
            if head is not None and self._is_due(head["next_attempt_at"].replace(tzinfo=UTC), now):
                chosen[object_id] = head
            elif head is not None:
                await self.defer(survey, object_id, head["next_attempt_at"])
            if len(chosen) == wanted:
                break
        return list(chosen.values())

    def _is_due(self, moment: datetime, now: datetime) -> bool:
        return not now < moment <= now + self._longest

    async def head(self, survey: str, object_id: str) -> Document | None:
        """Find the object's pending document that must go first."""
        mine = {"_id.survey": survey, "objectId": object_id, "state": State.PENDING.value}
        return await self._outbox.find_one(mine, sort=[("jd", ASCENDING), ("created_at", ASCENDING)])

    async def defer(self, survey: str, object_id: str, until: datetime) -> None:
        """Let all that is pending of an object wait, so that nothing overtakes its first document."""
        mine = {"_id.survey": survey, "objectId": object_id, "state": State.PENDING.value}
        believed = {"$lte": ["$next_attempt_at", until + self._longest]}
        later = {"$cond": [believed, {"$max": ["$next_attempt_at", until]}, until]}
        await self._outbox.update_many(mine, [{"$set": {"next_attempt_at": later}}])

    async def record(self, identity: Document, steps: Sequence[str], **fields: Any) -> None:
        """Note that calls are done (or found unnecessary), with further fields of the document."""
        update: Document = {"$addToSet": {"steps": {"$each": list(steps)}}, "$set": fields | {"attempts": 0}}
        await self._outbox.update_one({"_id": identity}, update)

    async def refuse(self, identity: Document, step: str, reason: str) -> None:
        """Note that SkyPortal refused a call for good; it counts as done until someone asks for a retry."""
        await self._outbox.update_one({"_id": identity}, {"$set": {f"refused.{step}": reason, "attempts": 0}})

    async def intend(self, identity: Document, step: str, now: datetime) -> None:
        """Note that a call that must not be made twice is about to be made."""
        await self._outbox.update_one({"_id": identity}, {"$set": {f"intents.{step}": now}})

    async def forget(self, identity: Document, step: str) -> None:
        """Note that a call has surely not had its effect."""
        await self._outbox.update_one({"_id": identity}, {"$unset": {f"intents.{step}": ""}})

    async def postpone(self, document: Document, until: datetime, reason: str) -> None:
        """Note a failed attempt; the object's documents wait until ``until``."""
        update: Document = {"$inc": {"attempts": 1}, "$set": {"error": reason}}
        await self._outbox.update_one({"_id": document["_id"]}, update)
        await self.defer(document["_id"]["survey"], document["objectId"], until)

    async def wait(self, document: Document, until: datetime, reason: str) -> None:
        """Let the object's documents wait until ``until``, though nothing has failed."""
        await self._outbox.update_one({"_id": document["_id"]}, {"$set": {"error": reason}})
        await self.defer(document["_id"]["survey"], document["objectId"], until)

    async def finish(self, document: Document, refused: Mapping[str, str], now: datetime, keep_days: int) -> bool:
        """Close a document whose steps are all done or refused (step -> reason).

        Returns
        -------
        bool
            False if a pass was added since ``document`` was read, or somebody has dropped it.
        """
        open_still = {"_id": document["_id"], "state": State.PENDING.value}
        same = {"$eq": [{"$size": {"$objectToArray": "$passes"}}, len(document["passes"])]}
        if refused:
            outcome: Document = {"state": State.FAILED.value, "error": "; ".join(sorted(set(refused.values())))}
        else:
            expires = now + timedelta(days=keep_days)
            outcome = {"state": State.DELIVERED.value, "error": None, "expires_at": expires, "delivered_at": now}
            outcome["photometry"] = None  # most of the document; SkyPortal has it
        result = await self._outbox.update_one(open_still | {"$expr": same}, {"$set": outcome})
        return result.matched_count == 1

    async def fail(self, identity: Document, reason: str) -> None:
        """Give a document up that no call can be made of."""
        await self._outbox.update_one({"_id": identity}, {"$set": {"state": State.FAILED.value, "error": reason}})

    async def backlog(self) -> Document:
        """Count pending and failed documents, and give the time at which the oldest pending one was made (UTC)."""
        pending = {"state": State.PENDING.value}
        oldest = await self._outbox.find_one(pending, {"created_at": 1}, sort=[("created_at", ASCENDING)])
        return {
            "backlog": await self._outbox.count_documents(pending),
            "failed": await self._outbox.count_documents({"state": State.FAILED.value}),
            "oldest": None if oldest is None else oldest["created_at"].replace(tzinfo=UTC),
        }
