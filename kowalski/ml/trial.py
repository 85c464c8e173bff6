"""Trying models: loading them as a worker does, and letting them score a few alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kowalski.config.settings import Settings
from kowalski.ml import samples
from kowalski.ml.scorer import Scorer, Scores
from kowalski.science import triplets
from kowalski.surveys import SURVEYS
from kowalski.surveys.base import Alert

__all__ = ["Trial", "try_models"]

MADE_UP = 32


class Trial(NamedTuple):
    """How a model did: its smallest and largest score, over how many alerts, or why it can't be loaded."""

    scored: int = 0
    scores: tuple[float, float] | None = None
    refused: str | None = None


def try_models(settings: Settings, survey: str, alerts: Sequence[Alert] = ()) -> dict[str, Trial]:
    """Score alerts with every model declared for a survey.

    Parameters
    ----------
    settings
        Where the models are declared and where they lie.
    survey
        Name of the survey.
    alerts
        Alerts of the survey; without them the models get numbers that are made up.
    """
    scorer = Scorer.load(settings, survey)
    results = _score(scorer, survey, alerts) if alerts else _score_made_up(scorer, settings, survey)
    trials = {name: Trial(refused=reason) for name, reason in scorer.missing.items()}
    for name in scorer.loaded:
        scores = [float(result[name]) for result in results if name in result]
        trials[name] = Trial(len(scores), (min(scores), max(scores)) if scores else None)
    return trials


def _score(scorer: Scorer, survey: str, alerts: Sequence[Alert]) -> list[Scores]:
    declared = SURVEYS[survey]
    history, magnitude = declared.light_curve
    images, valid = triplets.make([alert.stamps for alert in alerts])
    features = []
    for alert in alerts:
        rows = alert.histories.get(history, ())
        past = [(row["jd"], row[magnitude]) for row in rows if row.get(magnitude) is not None]
        features.append(declared.features(alert, past))
    return scorer.score(images, valid, features)


def _score_made_up(scorer: Scorer, settings: Settings, survey: str) -> list[Scores]:
    names = settings.ml.of(survey).allowed_features
    numbers = samples.features(MADE_UP, len(names)).tolist()
    features = [dict(zip(names, row, strict=True)) for row in numbers]
    return scorer.score(samples.triplets(MADE_UP), np.ones(MADE_UP, np.bool_), features)
