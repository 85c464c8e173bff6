"""1: outboxes hold light curves only while they are to be delivered.

Earlier versions wrote an object's light curve into documents that were only kept as a record, too, where it is most of
the document.
"""

from __future__ import annotations

from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.archive.outbox import State

TITLE = "take light curves out of outbox documents of which nothing is to be delivered"
WHERE: Document = {
    "state": {"$in": [State.KEPT.value, State.DELIVERED.value, State.DROPPED.value]},
    "photometry": {"$ne": None},
}


def pending(data: Database[Document], system: Database[Document]) -> int:
    """Count the documents that it would change."""
    return sum(system[name].count_documents(WHERE) for name in names.OUTBOXES.values())


def apply(data: Database[Document], system: Database[Document]) -> int:
    """Change them; safe to repeat. Returns how many were changed."""
    changed = 0
    for name in names.OUTBOXES.values():
        changed += system[name].update_many(WHERE, {"$set": {"photometry": None}}).modified_count
    return changed
