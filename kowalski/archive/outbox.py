"""The outbox: what has passed users' filters and is on its way to SkyPortal.

One document per alert that passed, in the system database. The broker writes it before it commits the alert's Kafka
offset; the courier works it off and records every step it has finished. Fields:

``_id``
    ``{survey, candid}``.
``objectId``, ``jd``, ``ra``, ``dec``, ``score``, ``kafka_timestamp`` (ms since 1970), ``created_at``
    Facts of the alert, fixed when the document is made.
``state``
    One of `State`.
``passes``
    ``"<group_id>:<filter_id>"`` -> what the filter said, when it passed (``passed_at``) and whether it is to be
    delivered (``deliver``: SkyPortal was on at that time). Entries are added, never changed or taken away.
``steps``, ``refused``
    Names of the calls that are done, and name -> reason of those that SkyPortal refused for good.
``known``
    Whether SkyPortal had the object before the first call; absent until the courier has looked.
``attempts``, ``next_attempt_at``, ``error``
    Failures since the last step that was done, when to try next, and what was wrong.
``expires_at``
    When a document that needs no more work goes away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bson.int64 import Int64
from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.surveys.base import Alert

PASS_FIELDS = ("group_id", "filter_id", "fid", "permissions", "update_annotations", "autosave", "annotations")
"""What the filter stage says of each pass."""


class State(StrEnum):
    """Where a document stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """SkyPortal refused a call for good; everything else of the document is delivered."""
    KEPT = "kept"
    """SkyPortal was off when the alert passed: a record only, never delivered later."""


INDEXES = (
    IndexModel([("state", ASCENDING), ("created_at", ASCENDING)], name="state_created_at"),
    IndexModel(
        [("next_attempt_at", ASCENDING)], name="pending_due", partialFilterExpression={"state": State.PENDING.value}
    ),
    IndexModel(
        [("_id.survey", ASCENDING), ("objectId", ASCENDING), ("jd", ASCENDING), ("created_at", ASCENDING)],
        name="pending_object",
        partialFilterExpression={"state": State.PENDING.value},
    ),
    IndexModel(
        [("expires_at", ASCENDING)],
        name="expires_at",
        expireAfterSeconds=0,
        partialFilterExpression={"expires_at": {"$exists": True}},
    ),
)
"""Those the courier works with hold pending documents only, so that a long archive of delivered ones costs nothing."""


KEYS: Document = {"$map": {"input": {"$objectToArray": {"$ifNull": ["$passes", {}]}}, "in": "$$this.k"}}
"""Expression: the keys of the passes that a document holds."""


def ensure_indexes(system: Database[Document]) -> None:
    """Make the outbox's indexes where they are missing."""
    system[names.OUTBOX].create_indexes(list(INDEXES))


def pass_key(group_id: int, filter_id: int) -> str:
    """Key of a filter's pass within a document."""
    return f"{group_id}:{filter_id}"


def score_of(document: Mapping[str, Any]) -> float | None:
    """Give an alert's real-bogus score: ``drb``, or ``rb`` in packets that are older than it."""
    candidate = document.get("candidate") or {}
    score = candidate.get("drb")
    return candidate.get("rb") if score is None else score


def upsert(
    survey: str,
    alert: Alert,
    passes: Iterable[Mapping[str, Any]],
    *,
    kafka_timestamp: int,
    now: datetime,
    deliver: bool,
    keep_days: int,
) -> UpdateOne:
    """Build the write that puts an alert's passes into the outbox, as often as it may be repeated.

    A pass that is already there stays as it is, ``passed_at`` included; a new one is added and, if it is to be
    delivered, makes the document pending again. All other fields keep their first values.

    Parameters
    ----------
    survey
        Name of the survey.
    alert
        The alert that passed.
    passes
        One mapping per filter with the keys `PASS_FIELDS`.
    kafka_timestamp
        When the packet was written to Kafka, milliseconds since 1970.
    now
        When the filters ran: ``passed_at`` of new passes.
    deliver
        Whether SkyPortal is on.
    keep_days
        For how long a document that is never delivered is kept.

    Raises
    ------
    KeyError
        If a pass lacks one of its fields.
    """
    moment = now.replace(microsecond=now.microsecond // 1000 * 1000)  # BSON dates have milliseconds
    new = {
        pass_key(given["group_id"], given["filter_id"]): {field: given[field] for field in PASS_FIELDS}
        | {"passed_at": moment, "deliver": deliver}
        for given in passes
    }
    first: Document = {
        "objectId": alert.object_id,
        "jd": alert.jd,
        "ra": alert.ra,
        "dec": alert.dec,
        "score": score_of(alert.document),
        "kafka_timestamp": Int64(kafka_timestamp),
        "created_at": moment,
        "state": State.KEPT.value,
        "passes": {},
        "steps": [],
        "refused": {},
        "attempts": 0,
        "next_attempt_at": moment,
        "error": None,
    }
    known: Document = {"$setIsSubset": [{"$literal": list(new)}, KEYS]}
    if deliver:
        changes = _reopening(known, moment)
    else:
        fresh = {"$eq": [{"$type": "$state"}, "missing"]}
        changes = {"expires_at": {"$cond": [fresh, moment + timedelta(days=keep_days), "$expires_at"]}}
    # users' content is quoted: it may look like an expression
    passed = {"passes": {"$mergeObjects": ["$passes", {"$literal": new}, "$passes"]}}
    merged = {"$mergeObjects": [{"_id": "$_id"}, {"$literal": first}, "$$ROOT", passed]}
    pipeline: list[Document] = [{"$set": changes}, {"$replaceWith": merged}]
    return UpdateOne({"_id": identity(survey, alert.candid)}, pipeline, upsert=True)


def identity(survey: str, candid: int) -> Document:
    """Build the ``_id`` of an alert's document."""
    return {"survey": survey, "candid": Int64(candid)}


def _reopening(known: Document, moment: datetime) -> Document:
    """Say what makes a document pending again unless all of the passes are ``known``."""
    return {
        "state": {"$cond": [known, "$state", State.PENDING.value]},
        "attempts": {"$cond": [known, "$attempts", 0]},
        "next_attempt_at": {"$cond": [known, "$next_attempt_at", moment]},
        "expires_at": {"$cond": [known, "$expires_at", "$$REMOVE"]},
    }


def counts(system: Database[Document]) -> Document:
    """Count the documents of each state; ``oldest`` is when the oldest pending one was made (UTC), or None."""
    outbox = system[names.OUTBOX]
    oldest = outbox.find_one({"state": State.PENDING.value}, {"created_at": 1}, sort=[("created_at", ASCENDING)])
    totals: Document = {state.value: outbox.count_documents({"state": state.value}) for state in State}
    return totals | {"oldest": None if oldest is None else oldest["created_at"].replace(tzinfo=UTC)}


class Queue:
    """The courier's view of the outbox: what to do next, and how far it has got."""

    def __init__(self, system: AsyncDatabase[Document]) -> None:
        self._outbox: AsyncCollection[Document] = system[names.OUTBOX]

    async def ensure_indexes(self) -> None:
        """Like `ensure_indexes`."""
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
        ready = {"state": State.PENDING.value, "next_attempt_at": {"$lte": now}, "objectId": {"$nin": list(busy)}}
        cursor = self._outbox.find(ready, {"objectId": 1}).sort("next_attempt_at", ASCENDING).limit(4 * wanted)
        chosen: dict[str, Document] = {}
        async for found in cursor:
            survey, object_id = found["_id"]["survey"], found["objectId"]
            if object_id in chosen:
                continue
            head = await self.head(survey, object_id)
            if head is not None and head["next_attempt_at"] <= now.replace(tzinfo=None):
                chosen[object_id] = head
            elif head is not None:
                await self.defer(survey, object_id, head["next_attempt_at"])
            if len(chosen) == wanted:
                break
        return list(chosen.values())

    async def head(self, survey: str, object_id: str) -> Document | None:
        """Find the object's pending document that must go first."""
        mine = {"_id.survey": survey, "objectId": object_id, "state": State.PENDING.value}
        return await self._outbox.find_one(mine, sort=[("jd", ASCENDING), ("created_at", ASCENDING)])

    async def defer(self, survey: str, object_id: str, until: datetime) -> None:
        """Let all that is pending of an object wait, so that nothing overtakes its first document."""
        mine = {"_id.survey": survey, "objectId": object_id, "state": State.PENDING.value}
        await self._outbox.update_many(mine, {"$max": {"next_attempt_at": until}})

    async def record(self, identity: Document, steps: Sequence[str], **fields: Any) -> None:
        """Note that calls are done (or found unnecessary), with further fields of the document."""
        update: Document = {"$addToSet": {"steps": {"$each": list(steps)}}, "$set": fields | {"attempts": 0}}
        await self._outbox.update_one({"_id": identity}, update)

    async def refuse(self, identity: Document, step: str, reason: str) -> None:
        """Note that SkyPortal refused a call for good; it counts as done until someone asks for a retry."""
        await self._outbox.update_one({"_id": identity}, {"$set": {f"refused.{step}": reason, "attempts": 0}})

    async def postpone(self, document: Document, until: datetime, reason: str) -> None:
        """Note a failed attempt; the object's documents wait until ``until``."""
        update: Document = {"$inc": {"attempts": 1}, "$set": {"error": reason}}
        await self._outbox.update_one({"_id": document["_id"]}, update)
        await self.defer(document["_id"]["survey"], document["objectId"], until)

    async def finish(self, document: Document, refused: Mapping[str, str], now: datetime, keep_days: int) -> bool:
        """Close a document whose steps are all done or refused (step -> reason).

        Returns
        -------
        bool
            False if a pass was added since ``document`` was read: there is more to do.
        """
        same = {"$eq": [{"$size": {"$objectToArray": "$passes"}}, len(document["passes"])]}
        if refused:
            outcome: Document = {"state": State.FAILED.value, "error": "; ".join(sorted(set(refused.values())))}
        else:
            expires = now + timedelta(days=keep_days)
            outcome = {"state": State.DELIVERED.value, "error": None, "expires_at": expires, "delivered_at": now}
        result = await self._outbox.update_one({"_id": document["_id"], "$expr": same}, {"$set": outcome})
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
