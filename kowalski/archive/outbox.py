"""The outbox: what has passed users' filters and is on its way to an outlet, SkyPortal first; each has one of its own.

One document per alert that passed, or that brings new photometry of an object that SkyPortal has, in the system
database. The broker writes it before it commits the alert's Kafka
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
``photometry``
    The object's light curve when the alert passed: see `kowalski.archive.curves`; null if nothing is to be delivered
    (any more).
``steps``, ``refused``
    Names of the calls that are done, and name -> reason of those that SkyPortal refused for good.
``intents``
    Name -> when a call that must not be made twice was begun, until its end is known.
``known``
    Whether SkyPortal had the object before the first call; absent until the courier has looked.
``saving``, ``saved``
    Groups that the object is to be saved to, and those that have taken it; absent until the courier gets there.
``followups``
    Pass -> what became of its follow-up request: ``outcome``, ``id``, ``reason``.
``attempts``, ``next_attempt_at``, ``error``
    Failures since the last step that was done, when to try next, and what was wrong.
``posted_again``
    Which run of ``reprocess`` had it delivered once more; absent if none had.
``expires_at``
    When a document that needs no more work goes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.surveys.base import Alert

PASS_FIELDS = (
    "group_id",
    "filter_id",
    "fid",
    "permissions",
    "update_annotations",
    "annotations",
    "autosave",
    "followup",
    "troubles",
)
"""What the filter stage says of each pass; the last three: see `kowalski.archive.rules`."""


class State(StrEnum):
    """Where a document stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """SkyPortal refused a call for good; everything else of the document is delivered."""
    KEPT = "kept"
    """SkyPortal was off when the alert passed: a record only, never delivered later."""
    DROPPED = "dropped"
    """An operator has given it up."""


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
    """Make the indexes of all outboxes where they are missing."""
    for name in names.OUTBOXES.values():
        system[name].create_indexes(list(INDEXES))


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
    photometry: Mapping[str, Any] | None = None,
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
        One mapping per filter with the keys `PASS_FIELDS`; none: only the photometry is to be delivered.
    photometry
        The object's light curve: see `kowalski.archive.curves`. It is kept only while it is to be delivered.
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
        "state": (State.PENDING if deliver else State.KEPT).value,
        "passes": {},
        "photometry": photometry if deliver else None,
        "steps": [],
        "refused": {},
        "intents": {},
        "attempts": 0,
        "next_attempt_at": moment,
        "error": None,
    }
    known: Document = {"$setIsSubset": [{"$literal": list(new)}, KEYS]}
    if deliver:
        changes = _reopening(known, moment) | _completing(known, photometry)
    else:
        fresh = {"$eq": [{"$type": "$state"}, "missing"]}
        changes = {"expires_at": {"$cond": [fresh, moment + timedelta(days=keep_days), "$expires_at"]}}
    # users' content is quoted: it may look like an expression
    passed = {"passes": {"$mergeObjects": ["$passes", {"$literal": new}, "$passes"]}}
    merged = {"$mergeObjects": [{"_id": "$_id"}, {"$literal": first}, "$$ROOT", passed]}
    pipeline: list[Document] = [{"$set": changes}, {"$replaceWith": merged}]
    return UpdateOne({"_id": identity(survey, alert.candid)}, pipeline, upsert=True)


MADE_ONCE = "^(save|comment|followup)"
"""Steps that are not made again when an alert is posted again."""


def post_again(
    survey: str, candid: int, passes: Iterable[str], run: str, photometry: Mapping[str, Any] | None, now: datetime
) -> UpdateOne:
    """Build the write that has passes on record delivered once more, whether they were so before or not.

    Calls whose repetition changes nothing where their effect is still there are made again; saving, comments and
    follow-up requests that are done stay done. A repetition of the write for the same ``run`` changes nothing.

    Parameters
    ----------
    passes
        Their keys.
    run
        Names whatever asks for it.
    photometry
        The object's light curve: see `kowalski.archive.curves`.
    now
        From when on the courier may do it.
    """
    lasting = {"$regexMatch": {"input": "$$step", "regex": MADE_ONCE}}
    change: Document = {f"passes.{key}.deliver": True for key in passes} | {
        "state": State.PENDING.value,
        "steps": {"$filter": {"input": "$steps", "as": "step", "cond": lasting}},
        "refused": {"$literal": {}},
        "attempts": 0,
        "next_attempt_at": now,
        "error": None,
        "posted_again": run,
        "photometry": {"$literal": photometry},
    }
    match: Document = {"_id": identity(survey, candid), "posted_again": {"$ne": run}}
    return UpdateOne(match, [{"$set": change}, {"$unset": ["expires_at", "known"]}])


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


def _completing(known: Document, photometry: Mapping[str, Any] | None) -> Document:
    """Say what gives a document the light curve that it lacks, because nothing of it was to be delivered so far."""
    held = {"$or": [known, {"$eq": [{"$type": "$state"}, "missing"]}]}
    return {"photometry": {"$cond": [held, "$photometry", {"$ifNull": ["$photometry", {"$literal": photometry}]}]}}


def counts(system: Database[Document]) -> Document:
    """Count the documents of each state over all outlets; ``oldest``: when the oldest pending one was made (UTC)."""
    boxes = [system[name] for name in names.OUTBOXES.values()]
    pending: Document = {"state": State.PENDING.value}
    found = [box.find_one(pending, {"created_at": 1}, sort=[("created_at", ASCENDING)]) for box in boxes]
    moments = [document["created_at"].replace(tzinfo=UTC) for document in found if document is not None]
    totals: Document = {
        state.value: sum(box.count_documents({"state": state.value}) for box in boxes) for state in State
    }
    return totals | {"oldest": min(moments, default=None)}


def listing(
    outbox: Collection[Document], state: State | None, survey: str | None = None, limit: int = 0
) -> list[Document]:
    """Read documents, newest first, without their light curves; 0: all."""
    match: Document = {}
    if state is not None:
        match["state"] = state.value
    if survey is not None:
        match["_id.survey"] = survey
    return list(outbox.find(match, {"photometry": 0}).sort("created_at", DESCENDING).limit(limit))


def retry(outbox: Collection[Document], ids: Sequence[Document], now: datetime) -> int:
    """Let the courier try again at once what SkyPortal has refused, what was dropped, and what waits.

    Calls that are done stay done. Returns how many documents are pending now because of it.
    """
    again = [State.FAILED.value, State.DROPPED.value, State.PENDING.value]
    change: Document = {
        "$set": {"state": State.PENDING.value, "refused": {}, "attempts": 0, "next_attempt_at": now, "error": None},
        "$unset": {"expires_at": ""},
    }
    return outbox.update_many({"_id": {"$in": list(ids)}, "state": {"$in": again}}, change).matched_count


def drop(outbox: Collection[Document], ids: Sequence[Document], now: datetime, keep_days: int) -> int:
    """Give up what is pending or failed; it stays on record for ``keep_days``. Returns how many documents that are."""
    given_up = [State.FAILED.value, State.PENDING.value]
    change = {"$set": {"state": State.DROPPED.value, "expires_at": now + timedelta(days=keep_days)}}
    return outbox.update_many({"_id": {"$in": list(ids)}, "state": {"$in": given_up}}, change).modified_count
