"""2: alerts carry HEALPix cells, by which they are found around thousands of positions at once.

Alerts that earlier versions, or the system that Kowalski succeeds, have stored have none.
"""

from __future__ import annotations

from pymongo.database import Database

from kowalski.archive import indexes
from kowalski.archive.client import Document
from kowalski.ingesters.cells import add_cells
from kowalski.science.coordinates import ALERT_ORDER
from kowalski.surveys import SURVEYS

TITLE = f"give alerts their HEALPix cells of order {ALERT_ORDER}"


def pending(data: Database[Document], system: Database[Document]) -> int:
    """Count the alerts that it would change."""
    where = indexes.without_cell(ALERT_ORDER)
    return sum(data[survey.alerts].count_documents(where) for survey in SURVEYS.values())


def apply(data: Database[Document], system: Database[Document]) -> int:
    """Change them; safe to repeat. Returns how many were changed."""
    changed = 0
    for survey in SURVEYS.values():
        missing = data[survey.alerts].count_documents(indexes.without_cell(ALERT_ORDER))
        if missing:
            add_cells(data[survey.alerts], (ALERT_ORDER,))
        changed += missing
    return changed
