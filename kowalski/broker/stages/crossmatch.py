"""Fourth stage: catalog sources at the positions of objects that the archive meets for the first time."""

from __future__ import annotations

import numpy as np

from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "crossmatch"


def crossmatch(batch: Batch, context: WorkerContext) -> None:
    """Match new objects, at the position of their earliest alert, with every configured catalog: one query each."""
    new = {object_id: works[0].alert for object_id, works in batch.objects().items() if object_id not in batch.known}
    if not new:
        return
    ra = np.array([alert.ra for alert in new.values()])
    dec = np.array([alert.dec for alert in new.values()])
    batch.matches = {object_id: {} for object_id in new}
    for name, found in context.catalogs.match(ra, dec).items():
        for object_id, documents in zip(new, found, strict=True):
            batch.matches[object_id][name] = documents
