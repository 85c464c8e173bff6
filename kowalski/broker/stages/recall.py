"""Second stage: what the archive already holds of these alerts and their objects."""

from __future__ import annotations

from kowalski.archive import alerts, objects
from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext

NAME = "recall"


def recall(batch: Batch, context: WorkerContext) -> None:
    """Read the known objects, and refuse alerts whose candid belongs to another object."""
    survey = context.survey
    stored = alerts.owners(context.data[survey.alerts], _candids(batch), survey.object_id_field)
    batch.reject(
        [
            (work, f"candid {work.alert.candid} already belongs to object {stored[work.alert.candid]}")
            for work in batch.works
            if stored.get(work.alert.candid, work.alert.object_id) != work.alert.object_id
        ],
        NAME,
    )
    groups = batch.objects()
    if groups:
        light_curve = survey.light_curve if context.scorer.needs_history else None
        since = min(_first_jd(work.alert.histories, work.alert.jd) for work in batch.works)
        collection = context.data[survey.objects]
        batch.known = objects.recall(collection, list(groups), survey.histories, since, light_curve)


def _candids(batch: Batch) -> list[int]:
    return [work.alert.candid for work in batch.works]


def _first_jd(histories: dict[str, list[objects.Row]], jd: float) -> float:
    return min((row["jd"] for rows in histories.values() for row in rows), default=jd)
