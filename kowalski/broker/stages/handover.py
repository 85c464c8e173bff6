"""Last stage: what passed, and what is new of objects that SkyPortal has, goes into the outboxes, for the courier."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kowalski.archive import known_objects, names, outbox
from kowalski.archive.curves import Curves, collect
from kowalski.broker.batch import Batch, Work
from kowalski.broker.context import WorkerContext
from kowalski.config.outlets import OutletName

NAME = "handover"

Passes = dict[int, list[dict[str, Any]]]
"""Candid -> its passes; none: only its photometry is to be delivered."""


def hand_over(batch: Batch, context: WorkerContext) -> None:
    """Write, per outlet, one document for each alert that passed a filter, or whose object SkyPortal has.

    SkyPortal tells passes of one object and filter apart by their moment, so alerts of one object get different ones.
    """
    settings = context.settings
    chosen: dict[OutletName, Passes] = {name: _passes(batch, name, context) for name in settings.outlets}
    if settings.skyportal.enabled:
        chosen["skyportal"] |= {candid: [] for candid in _of_known_objects(batch, context, chosen["skyportal"])}
    now = datetime.now(UTC)
    delivered = {candid for name, passes in chosen.items() if settings.outlets[name].enabled for candid in passes}
    curves = collect(context.data, batch.survey, [work.alert for work in batch.works if work.alert.candid in delivered])
    for name, passes in chosen.items():
        _write(batch, context, passes, curves, now, name, deliver=settings.outlets[name].enabled)


def hand_over_again(batch: Batch, context: WorkerContext, *, run: str | None) -> None:
    """Put on record what passes of alerts that came in earlier; what is on record stays as it is.

    Parameters
    ----------
    run
        Names the run of ``reprocess`` that has everything delivered, once more where it has been; None: nothing is.
    """
    now = datetime.now(UTC)
    for name, own in context.settings.outlets.items():
        passes = _passes(batch, name, context)
        delivers = run is not None and own.enabled
        chosen = [work.alert for work in batch.works if delivers and work.alert.candid in passes]
        curves = collect(context.data, batch.survey, chosen)
        _write(batch, context, passes, curves, now, name, deliver=delivers)
        if run is not None and chosen:
            operations = [
                outbox.post_again(
                    batch.survey.name,
                    alert.candid,
                    [outbox.pass_key(one["group_id"], one["filter_id"]) for one in passes[alert.candid]],
                    run,
                    curves[alert.candid].document(),
                    now,
                )
                for alert in chosen
            ]
            context.system[names.OUTBOXES[name]].bulk_write(operations, ordered=False)


def _passes(batch: Batch, outlet: OutletName, context: WorkerContext) -> Passes:
    """Choose the passes that go to an outlet."""
    usual = context.settings.filters.outlets
    chosen: Passes = {}
    for work in batch.works:
        own = [one for one in work.passes if outlet in (one["outlets"] or usual)]
        if own:
            chosen[work.alert.candid] = own
    return chosen


def _of_known_objects(batch: Batch, context: WorkerContext, passing: Passes) -> list[int]:
    """Find the alerts that passed no filter but whose object SkyPortal has."""
    rest = [work for work in batch.works if work.alert.candid not in passing]
    known = known_objects.among(context.system, sorted({work.alert.object_id for work in rest}))
    return [work.alert.candid for work in rest if work.alert.object_id in known]


def _write(
    batch: Batch,
    context: WorkerContext,
    passes: Passes,
    curves: Mapping[int, Curves],
    now: datetime,
    outlet: OutletName,
    *,
    deliver: bool,
) -> None:
    own = context.settings.outlets[outlet]

    def operation(work: Work, rank: int) -> Any:
        candid = work.alert.candid
        curve = curves.get(candid)
        if curve is not None and not passes[candid]:
            curve = curve.recent()
        return outbox.upsert(
            batch.survey.name,
            work.alert,
            passes[candid],
            photometry=None if curve is None else curve.document(),
            kafka_timestamp=work.packet.timestamp,
            now=now + timedelta(milliseconds=rank),
            deliver=deliver,
            keep_days=own.keep_days,
        )

    operations = [
        operation(work, rank)
        for works in batch.objects().values()
        for rank, work in enumerate(works)
        if work.alert.candid in passes
    ]
    if operations:
        context.system[names.OUTBOXES[outlet]].bulk_write(operations, ordered=False)
