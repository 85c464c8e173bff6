"""Which fields a survey's packets have had so far, and how that has changed: one document per survey.

``_id`` is the survey's name. ``fields`` lists ``{field, type}``: every field of every schema, by its dotted name, with
each of its types. ``changes`` lists what was not in the first schema: ``{field, type, was, at}``, where ``was`` are the
types that were known until then, none for a field that is new. A type that may be null is the type itself: packets
leave out what they like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

LARGEST = 5_000
"""Fields of one survey that are kept: ten times as many as any has."""


class Change(NamedTuple):
    """A field that packets did not have before, or had in other types."""

    field: str
    type: str
    was: tuple[str, ...]

    def __str__(self) -> str:
        if self.was:
            return f"{self.field} is {self.type} now, it was {' or '.join(self.was)}"
        return f"{self.field} ({self.type}) is new"


def note(system: Database[Document], survey: str, fields: Collection[tuple[str, str]]) -> list[Change]:
    """Take note of the fields (name, type) of a schema.

    Returns
    -------
    list
        What is new or of another type than before, as far as nobody has noted it yet. Empty for a survey's first
        schema.
    """
    known = system[names.SCHEMAS].find_one({"_id": survey}, {"fields": 1})
    if known is None:
        first: Document = {"fields": [{"field": name, "type": kind} for name, kind in fields], "changes": []}
        made = system[names.SCHEMAS].update_one({"_id": survey}, {"$setOnInsert": first}, upsert=True)
        return [] if made.upserted_id is not None else note(system, survey, fields)
    types: dict[str, list[str]] = defaultdict(list)
    for each in known["fields"]:
        types[each["field"]].append(each["type"])
    new = [(name, kind) for name, kind in fields if kind not in types.get(name, ())]
    room = max(0, LARGEST - len(known["fields"]))
    changes = [Change(name, kind, tuple(types.get(name, ()))) for name, kind in new[:room]]
    return [change for change in changes if _is_first(system, survey, change)]


def _is_first(system: Database[Document], survey: str, change: Change) -> bool:
    """Write a change down unless another worker has done so in the meantime."""
    field = {"field": change.field, "type": change.type}
    told = {**field, "was": list(change.was), "at": datetime.now(UTC)}
    done = system[names.SCHEMAS].update_one(
        {"_id": survey, "fields": {"$not": {"$elemMatch": field}}}, {"$push": {"fields": field, "changes": told}}
    )
    return done.modified_count == 1


def listing(system: Database[Document]) -> Mapping[str, list[dict[str, Any]]]:
    """List the changes of each survey that has any, oldest first."""
    found = system[names.SCHEMAS].find({"changes.0": {"$exists": True}}, {"changes": 1}).sort("_id")
    return {document["_id"]: document["changes"] for document in found}
