"""Last stage: what passed, and what is new of objects that SkyPortal has, goes into the outbox, for the courier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kowalski.archive import known_objects, names, outbox
from kowalski.archive.curves import collect
from kowalski.broker.batch import Batch, Work
from kowalski.broker.context import WorkerContext

NAME = "handover"


def hand_over(batch: Batch, context: WorkerContext) -> None:
    """Write one outbox document per alert that passed at least one filter, or whose object SkyPortal has.

    SkyPortal tells passes of one object and filter apart by their moment, so alerts of one object get different ones.
    """
    chosen = [work for work in batch.works if work.passes]
    skyportal = context.settings.skyportal
    if skyportal.enabled:
        chosen += _of_known_objects(batch, context)
    if not chosen:
        return
    now = datetime.now(UTC)
    curves = collect(context.data, batch.survey, [work.alert for work in chosen])
    wanted = {work.alert.candid for work in chosen}
    operations = [
        outbox.upsert(
            batch.survey.name,
            work.alert,
            work.passes,
            photometry=(curve if work.passes else curve.recent()).document(),
            kafka_timestamp=work.packet.timestamp,
            now=now + timedelta(milliseconds=rank),
            deliver=skyportal.enabled,
            keep_days=skyportal.keep_days,
        )
        for works in batch.objects().values()
        for rank, work in enumerate(works)
        if work.alert.candid in wanted
        for curve in (curves[work.alert.candid],)
    ]
    context.system[names.OUTBOX].bulk_write(operations, ordered=False)


def _of_known_objects(batch: Batch, context: WorkerContext) -> list[Work]:
    """Choose the alerts that passed no filter but whose object SkyPortal has."""
    rest = [work for work in batch.works if not work.passes]
    known = known_objects.among(context.system, sorted({work.alert.object_id for work in rest}))
    return [work for work in rest if work.alert.object_id in known]
