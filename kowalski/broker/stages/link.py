"""Sixth stage: objects of other surveys that are the same as those of the batch."""

from __future__ import annotations

import numpy as np

from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "link"


def link(batch: Batch, context: WorkerContext) -> None:
    """Match all objects with those of other surveys: known ones, too, with which an earlier try may not have ended."""
    located = batch.located()
    if located:
        ra = np.array([alert.ra for alert in located.values()])
        dec = np.array([alert.dec for alert in located.values()])
        known = {object_id: one.aliases for object_id, one in batch.known.items()}
        context.aliases.link(list(located), ra, dec, known)
