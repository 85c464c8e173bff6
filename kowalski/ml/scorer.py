"""Scoring a batch of alerts with a survey's models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Self

import numpy as np

from kowalski.config.settings import Settings
from kowalski.ml import files, graphs, specs
from kowalski.ml.merge import FeatureKey, feature_key
from kowalski.ml.samples import Floats
from kowalski.ml.sessions import Session, open_all
from kowalski.ml.specs import ModelError, Spec
from kowalski.science.triplets import Mask, Triplets
from kowalski.surveys import SURVEYS

__all__ = ["Scorer", "Scores"]

Scores = dict[str, float | str]
"""What is stored as ``classifications``: ``<name>`` -> score, ``<name>_version`` -> version."""


class Scorer:
    """The models of one survey, loaded.

    Attributes
    ----------
    loaded
        Name -> version of the models that score.
    missing
        Name -> reason of those that are declared but don't.
    needs_history
        Whether a loaded model uses features that the survey derives of an object's earlier detections.
    absent
        How many scores could not be given, by (model, reason): ``stamps`` (missing, unreadable or zero), ``features``
        (one is missing, null or not finite) or ``score`` (the model's own result is not finite).
    """

    def __init__(self, survey: str, sessions: Sequence[Session], missing: Mapping[str, str]) -> None:
        self._sessions = list(sessions)
        self._keys = list(dict.fromkeys(key for session in self._sessions for key in session.features))
        members = [spec for session in self._sessions for spec in session.members]
        self.loaded = {spec.name: spec.version for spec in members}
        self.missing = dict(missing)
        known = SURVEYS.get(survey)
        derived = known.history_features if known is not None else frozenset()
        self.needs_history = any(derived.intersection(spec.features) for spec in members)
        self.absent: Counter[tuple[str, str]] = Counter()

    @classmethod
    def load(cls, settings: Settings, survey_name: str) -> Self:
        """Load all models of a survey that can be scored now.

        Weights are neither fetched nor converted here (see `kowalski.ml.ready`), and TensorFlow is not imported. A
        model that can't be loaded ends up in `missing` and takes no other down.
        """
        declared, missing = specs.declared(settings.ml, survey_name)
        found = []
        for spec in declared:
            try:
                found.append(graphs.read(spec, files.ready(settings, spec)))
            except ModelError as error:
                missing[spec.name] = str(error)
        sessions, refused = open_all(found, settings.ml.device)
        return cls(survey_name, sessions, missing | refused)

    def score(self, triplets: Triplets, has_triplet: Mask, features: Sequence[Mapping[str, Any]]) -> list[Scores]:
        """Score alerts.

        Parameters
        ----------
        triplets
            (n, 63, 63, 3) float32, finite, as of `kowalski.science.triplets.make`.
        has_triplet
            (n,) whether an alert has a valid triplet.
        features
            For each alert, its scalars by name (`Survey.features`).

        Returns
        -------
        list of dict
            For each alert, the scores that can be given, with the models' versions.
        """
        count = len(features)
        results: list[Scores] = [{} for _ in range(count)]
        values = {key: _matrix(features, key) for key in self._keys}
        complete: dict[FeatureKey, Mask] = {key: np.all(np.isfinite(matrix), axis=1) for key, matrix in values.items()}
        for key, matrix in values.items():
            matrix[~complete[key]] = 0.0  # fed to models that share the graph; what comes of it is not kept
        for session in self._sessions:
            able = np.stack([self._able(spec, has_triplet[:count], complete) for spec in session.members])
            rows = np.flatnonzero(able.any(axis=0))
            scores = session.run(triplets, values, rows)
            for column, spec in enumerate(session.members):
                self._keep(results, spec, rows, scores[:, column], able[column, rows])
        return results

    def _able(self, spec: Spec, has_triplet: Mask, complete: Mapping[FeatureKey, Mask]) -> Mask:
        """Which alerts hold everything a model takes; counts those that don't."""
        able = np.ones(len(has_triplet), np.bool_)
        if spec.declared.triplet:
            able &= has_triplet
            self._count(spec, "stamps", len(able) - int(able.sum()))
        if spec.features:
            before = int(able.sum())
            able &= complete[feature_key(spec)]
            self._count(spec, "features", before - int(able.sum()))
        return able

    def _keep(self, results: list[Scores], spec: Spec, rows: Any, scores: Floats, able: Mask) -> None:
        """Put one model's scores where they are able to be given and finite."""
        finite = np.isfinite(scores)
        self._count(spec, "score", int((able & ~finite).sum()))
        name, version = spec.name, f"{spec.name}_version"
        kept = able & finite
        for row, score in zip(rows[kept].tolist(), scores[kept].tolist(), strict=True):
            results[row][name] = score
            results[row][version] = spec.version

    def _count(self, spec: Spec, reason: str, number: int) -> None:
        if number:
            self.absent[spec.name, reason] += number


def _matrix(features: Sequence[Mapping[str, Any]], key: FeatureKey) -> Floats:
    """Collect one list of features, (n, k) float32, scaled; what is missing or no number becomes NaN."""
    names, norms = key
    pick = itemgetter(*names) if len(names) > 1 else lambda given: (given[names[0]],)
    try:
        values = np.array([pick(given) for given in features], np.float64).reshape(len(features), len(names))
    except (KeyError, TypeError, ValueError, OverflowError):  # one alert is incomplete: look at each number
        values = np.array([[_number(given.get(name)) for name in names] for given in features], np.float64)
    with np.errstate(over="ignore"):
        return (values / norms).astype(np.float32)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
