"""What users say that alerts are, in the data database: one document per alert, ``_id`` is its candid.

Beside the object's name, ``human_labels`` and ``ml_scores`` map labels to numbers; ``programid`` is the alert's, where
its survey has programs, so that queries show no more than they show of alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive.client import Document
from kowalski.surveys.base import Survey

KINDS = ("human_labels", "ml_scores")
Labels = Mapping[int, Mapping[str, Sequence[str]]]
"""Candid -> kind -> labels."""


async def add(
    data: AsyncDatabase[Document], survey: Survey, owners: Mapping[int, Document], labels: Mapping[int, Document]
) -> None:
    """Set labels of alerts; others that they have stay.

    Parameters
    ----------
    owners
        Candid -> what the document says of the alert beside its labels.
    labels
        Candid -> kind -> label -> number.
    """
    updates = []
    for candid, given in labels.items():
        values = {f"{kind}.{label}": value for kind, some in given.items() for label, value in some.items()}
        updates.append(UpdateOne({"_id": candid}, {"$set": {**owners[candid], **values}}, upsert=True))
    await data[survey.classifications].bulk_write(updates, ordered=False)


async def remove(
    data: AsyncDatabase[Document], survey: Survey, labels: Mapping[int, Mapping[str, Sequence[str]]]
) -> int:
    """Take labels off alerts; tells how many of the alerts have a document."""
    updates = []
    for candid, given in labels.items():
        names = {f"{kind}.{label}": "" for kind, some in given.items() for label in some}
        updates.append(UpdateOne({"_id": candid}, {"$unset": names}))
    return (await data[survey.classifications].bulk_write(updates, ordered=False)).matched_count


async def get(data: AsyncDatabase[Document], survey: Survey, candid: int) -> dict[str, Any] | None:
    """Read what is said of an alert."""
    return await data[survey.classifications].find_one({"_id": candid})
