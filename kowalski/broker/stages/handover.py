"""Last stage: what passed goes into the outbox, from which the courier delivers it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kowalski.archive import names, outbox
from kowalski.archive.curves import collect
from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "handover"


def hand_over(batch: Batch, context: WorkerContext) -> None:
    """Write one outbox document per alert that passed at least one filter.

    SkyPortal tells passes of one object and filter apart by their moment, so alerts of one object get different ones.
    """
    passing = [work.alert for work in batch.works if work.passes]
    if not passing:
        return
    now = datetime.now(UTC)
    curves = collect(context.data, batch.survey, passing)
    skyportal = context.settings.skyportal
    operations = [
        outbox.upsert(
            batch.survey.name,
            work.alert,
            work.passes,
            photometry=curves[work.alert.candid].document(),
            kafka_timestamp=work.packet.timestamp,
            now=now + timedelta(milliseconds=rank),
            deliver=skyportal.enabled,
            keep_days=skyportal.keep_days,
        )
        for works in batch.objects().values()
        for rank, work in enumerate(works)
        if work.passes
    ]
    context.system[names.OUTBOX].bulk_write(operations, ordered=False)
