"""Sixth stage: users' filters on the stored alerts."""

from __future__ import annotations

from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "filter"


def filter_alerts(batch: Batch, context: WorkerContext) -> None:
    """Find out which alerts pass which filters."""
    if not batch.works:
        return
    passes = context.filters.run([work.alert.candid for work in batch.works])
    for work in batch.works:
        work.passes = passes.get(work.alert.candid, [])
