"""Last stage: what passed goes into the outbox, from which the courier delivers it."""

from __future__ import annotations

from datetime import UTC, datetime

from kowalski.archive import names, outbox
from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "handover"


def hand_over(batch: Batch, context: WorkerContext) -> None:
    """Write one outbox document per alert that passed at least one filter."""
    now = datetime.now(UTC)
    skyportal = context.settings.skyportal
    operations = [
        outbox.upsert(
            batch.survey.name,
            work.alert,
            work.passes,
            kafka_timestamp=work.packet.timestamp,
            now=now,
            deliver=skyportal.enabled,
            keep_days=skyportal.keep_days,
        )
        for work in batch.works
        if work.passes
    ]
    if operations:
        context.system[names.OUTBOX].bulk_write(operations, ordered=False)
