"""Documents of a survey's alert collection: one per alert, ``_id`` is its candid.

Written once and never changed, but for scores when an operator has alerts scored again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from kowalski.archive.client import Document

DUPLICATE_KEY = 11000


def insert_new(alerts: Collection[Document], documents: Sequence[Document]) -> set[int]:
    """Insert the documents whose ``_id`` is not there yet; what is there stays as it is.

    Returns
    -------
    set
        The ``_id`` of those that were there already.
    """
    if not documents:
        return set()
    try:
        alerts.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return duplicates(error)
    return set()


def set_scores(alerts: Collection[Document], scores: Mapping[int, Mapping[str, Any]]) -> None:
    """Put scores (candid -> name -> value) in place of earlier ones; those that are not named stay."""
    changes = [
        UpdateOne({"_id": candid}, {"$set": {f"classifications.{name}": value for name, value in own.items()}})
        for candid, own in scores.items()
        if own
    ]
    if changes:
        alerts.bulk_write(changes, ordered=False)


def duplicates(error: BulkWriteError) -> set[int]:
    """Find the ``_id`` that an unordered insert met already; any other failure is raised again."""
    details = error.details or {}
    failures = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return {failure["op"]["_id"] for failure in failures}


def owners(alerts: Collection[Document], candids: Sequence[int], object_id_field: str) -> dict[int, str]:
    """Look up to which object each stored alert belongs: candid -> object id; unknown candids are left out."""
    found = alerts.find({"_id": {"$in": list(candids)}}, {object_id_field: 1})
    return {document["_id"]: document[object_id_field] for document in found}
