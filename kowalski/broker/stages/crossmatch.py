"""Fourth stage: catalog sources at the positions of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kowalski.archive.catalogs import Catalogs, Matches
from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext
from kowalski.science.coordinates import Floats
from kowalski.surveys.base import Alert

NAME = "crossmatch"

Match = Callable[[Floats, Floats], dict[str, Matches]]


def crossmatch(batch: Batch, context: WorkerContext) -> None:
    """Match the batch's objects with the survey's catalogs."""
    match_objects(batch, context.catalogs)


def match_objects(batch: Batch, catalogs: Catalogs) -> None:
    """Match objects with catalogs: one query each.

    Objects that the archive meets for the first time are matched with all of them at the position of their earliest
    alert, known ones at that of their latest with catalogs that grow meanwhile (``refresh``).
    """
    groups = batch.objects()
    new = {object_id: works[0].alert for object_id, works in groups.items() if object_id not in batch.known}
    batch.matches = _matched(new, catalogs.match)
    if catalogs.any_grow:
        known = {object_id: works[-1].alert for object_id, works in groups.items() if object_id in batch.known}
        batch.matches |= _matched(known, catalogs.match_again)


def _matched(alerts: Mapping[str, Alert], match: Match) -> dict[str, dict[str, list[dict[str, Any]]]]:
    if not alerts:
        return {}
    ra = np.array([alert.ra for alert in alerts.values()])
    dec = np.array([alert.dec for alert in alerts.values()])
    matches: dict[str, dict[str, list[dict[str, Any]]]] = {object_id: {} for object_id in alerts}
    for name, found in match(ra, dec).items():
        for object_id, documents in zip(alerts, found, strict=True):
            matches[object_id][name] = documents
    return matches
