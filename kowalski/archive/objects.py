"""Documents of a survey's object collection: ``_id`` is the object's name, histories grow with each alert.

What an alert adds to a known object is found by comparing its rows with the stored ones; a row that is stored, or that
loses against the stored row of its key, will do so for ever, because rows are never taken away. What is left is
usually newer than everything stored and is appended on condition that no other batch came in between (`append_rows`).
Otherwise MongoDB merges atomically, by the rules of `kowalski.science.lightcurve` (`merge_rows`), which is five times
as dear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from kowalski.archive.alerts import duplicates
from kowalski.archive.client import Document
from kowalski.archive.places import CELL
from kowalski.surveys.base import History

Row = dict[str, Any]
Expression = dict[str, Any]


@dataclass(slots=True)
class Known:
    """What the archive holds of an object, as far as a batch needs it.

    Attributes
    ----------
    rows
        By history: the stored rows since the jd that was asked for. A history that the object does not hold is absent.
    sizes
        By history: how many rows are stored in all.
    past
        (jd, magpsf) of all stored detections, if they were asked for.
    aliases
        The object in other surveys: survey -> names.
    placed
        Whether it says where it is.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    past: list[tuple[float, float]] = field(default_factory=list)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    placed: bool = False


def recall(
    objects: Collection[Document],
    object_ids: Sequence[str],
    histories: Sequence[History],
    since: float,
    light_curve: tuple[str, str] | None = None,
) -> dict[str, Known]:
    """Read what is known of objects; those that are not in the archive are left out.

    Parameters
    ----------
    since
        Rows before this jd are counted, not read.
    light_curve
        Names of a history and its field of magnitudes, if all past detections are wanted.
    """
    shown: Expression = {"aliases": 1, CELL: 1}
    for history in histories:
        rows = f"${history.name}"
        recent = {"$filter": {"input": rows, "as": "row", "cond": {"$gte": ["$$row.jd", since]}}}
        shown[history.name] = {"$cond": [{"$isArray": rows}, recent, "$$REMOVE"]}
        shown[f"n_{history.name}"] = {"$cond": [{"$isArray": rows}, {"$size": rows}, "$$REMOVE"]}
    if light_curve is not None:
        name, magnitude = light_curve
        pairs = {"$map": {"input": f"${name}", "as": "row", "in": ["$$row.jd", f"$$row.{magnitude}"]}}
        shown["past"] = {"$cond": [{"$isArray": f"${name}"}, pairs, []]}
    found = objects.find({"_id": {"$in": list(object_ids)}}, shown)
    return {document["_id"]: _known(document, histories) for document in found}


def _known(document: Document, histories: Sequence[History]) -> Known:
    held = [history.name for history in histories if history.name in document]
    return Known(
        rows={name: document[name] for name in held},
        sizes={name: document[f"n_{name}"] for name in held},
        past=[(jd, mag) for jd, mag in document.get("past", ()) if mag is not None],
        aliases=document.get("aliases", {}),
        placed="coordinates" in document,
    )


def insert_new(objects: Collection[Document], documents: Sequence[Document]) -> set[str]:
    """Insert objects that are not there yet; returns the names of those that were, whose rows need merging."""
    if not documents:
        return set()
    try:
        objects.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return {str(name) for name in duplicates(error)}
    return set()


def append_rows(object_id: str, rows: Mapping[str, list[Row]], sizes: Mapping[str, int]) -> UpdateOne:
    """Build the update that appends ``rows`` (by history name), unless a history has changed its size in between.

    The rows must have keys that are not stored and sort after all that are; whether the update matched tells whether
    it was done.
    """
    unchanged = {name: {"$size": sizes[name]} for name in rows}
    return UpdateOne({"_id": object_id, **unchanged}, {"$push": {name: {"$each": new} for name, new in rows.items()}})


def set_matches(object_id: str, matches: Mapping[str, list[Row]]) -> UpdateOne:
    """Build the update that puts cross-matches (by catalog) in place of earlier ones."""
    return UpdateOne({"_id": object_id}, {"$set": {f"cross_matches.{name}": found for name, found in matches.items()}})


def merge_rows(object_id: str, histories: Sequence[History], rows: Mapping[str, list[Row]]) -> UpdateOne:
    """Build the update that merges ``rows`` (by history name) into the object's document.

    A history that the document does not hold is left out, but for the first declared one, which every object has.
    """
    stage = {
        history.name: _merged(history, rows[history.name], optional=index > 0)
        for index, history in enumerate(histories)
        if rows.get(history.name)
    }
    return UpdateOne({"_id": object_id}, [{"$set": stage}])


def _merged(history: History, rows: list[Row], *, optional: bool) -> Expression:
    """Merge ``rows`` into the stored ones.

    Rows that are stored already, to the letter, are the usual case and end it; only what is left is compared by key.
    """
    stored = f"${history.name}"
    fresh: Expression = {"$setDifference": [{"$literal": rows}, "$$stored"]}
    merged: Expression = {
        "$let": {
            "vars": {"stored": stored if optional else {"$ifNull": [stored, []]}},
            "in": {
                "$let": {
                    "vars": {"fresh": fresh},
                    "in": {"$cond": [{"$eq": ["$$fresh", []]}, "$$stored", _joined(history)]},
                }
            },
        }
    }
    if optional:
        return {"$cond": [{"$isArray": stored}, merged, "$$REMOVE"]}
    return merged


def _joined(history: History) -> Expression:
    """Put stored and fresh rows in order; where both have a row of one key, keep the better one."""
    order = dict.fromkeys((*history.key, *history.prefer), 1)
    rows: Expression = {"$sortArray": {"input": {"$concatArrays": ["$$stored", "$$fresh"]}, "sortBy": order}}
    shared: Expression = {"$setIntersection": [_keys(history, "$$stored"), _keys(history, "$$fresh")]}
    chosen: Expression = {"$cond": [{"$eq": [shared, []]}, "$$rows", _best(history)]}
    return {"$let": {"vars": {"rows": rows}, "in": chosen}}


def _keys(history: History, rows: str) -> Expression:
    return {"$map": {"input": rows, "as": "row", "in": [f"$$row.{name}" for name in history.key]}}


def _best(history: History) -> Expression:
    """Of neighbours with one key (a stored and a fresh row, never more) keep the one that ranks first."""
    last = {"$subtract": [{"$size": "$$rows"}, 1]}
    before = {"$and": [{"$gt": ["$$i", 0]}, _outranked(history, {"$subtract": ["$$i", 1]})]}
    after = {"$and": [{"$lt": ["$$i", last]}, _outranked(history, {"$add": ["$$i", 1]})]}
    survives: Expression = {"$not": [{"$or": [before, after]}]}
    indices = {"$filter": {"input": {"$range": [0, {"$size": "$$rows"}]}, "as": "i", "cond": survives}}
    return {"$map": {"input": indices, "as": "i", "in": {"$arrayElemAt": ["$$rows", "$$i"]}}}


def _outranked(history: History, neighbour: Expression) -> Expression:
    """Whether the row at ``neighbour`` has the key of row ``i`` and comes first by preference, then by content."""

    def values(row: str, names: tuple[str, ...]) -> list[str]:
        return [f"$${row}.{name}" for name in names]

    same_key = {"$eq": [values("one", history.key), values("other", history.key)]}
    first = {"$lt": [[*values("other", history.prefer), "$$other"], [*values("one", history.prefer), "$$one"]]}
    rows = {"one": {"$arrayElemAt": ["$$rows", "$$i"]}, "other": {"$arrayElemAt": ["$$rows", neighbour]}}
    return {"$let": {"vars": rows, "in": {"$and": [same_key, first]}}}
