"""Third stage: scores of the machine-learning models, a batch at a time."""

from __future__ import annotations

from kowalski.broker.batch import Batch
from kowalski.broker.context import WorkerContext
from kowalski.science import triplets

NAME = "score"


def score(batch: Batch, context: WorkerContext) -> None:
    """Score every alert; a model that lacks an input leaves its score out."""
    if not batch.works or not context.scorer.loaded:
        return
    images, valid = triplets.make([work.alert.stamps for work in batch.works])
    pasts = _pasts(batch) if context.scorer.needs_history else {}
    features = [batch.survey.features(work.alert, pasts.get(work.alert.candid, ())) for work in batch.works]
    for work, scores in zip(batch.works, context.scorer.score(images, valid, features), strict=True):
        work.scores = scores


def _pasts(batch: Batch) -> dict[int, list[tuple[float, float]]]:
    """Collect the detections before each alert: stored ones, and those that it or earlier alerts of the batch bring."""
    name, magnitude = batch.survey.light_curve
    pasts: dict[int, list[tuple[float, float]]] = {}
    for object_id, works in batch.objects().items():
        known = batch.known.get(object_id)
        past = list(known.past) if known is not None else []
        for work in works:
            rows = work.alert.histories.get(name, ())
            past = past + [(row["jd"], row[magnitude]) for row in rows if row.get(magnitude) is not None]
            pasts[work.alert.candid] = past
    return pasts
