"""Declared models: what the settings say of each one, checked for sense."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from kowalski.config.settings import MachineLearning, Model, SurveyModels

__all__ = ["ModelError", "Spec", "declared"]


class ModelError(Exception):
    """A model can't be used; the text says why in one sentence. Other models are not concerned."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One model of one survey, ready to be looked for.

    Attributes
    ----------
    features
        Names of the scalars it takes, in order; empty if it takes none.
    norms
        What each feature is divided by.
    """

    survey: str
    name: str
    declared: Model
    features: tuple[str, ...] = ()
    norms: tuple[float, ...] = field(default=())

    @property
    def version(self) -> str:
        """Version as declared, stored beside each score."""
        return self.declared.version

    @property
    def label(self) -> str:
        """How messages name the model."""
        return f"{self.name} {self.version}"

    @property
    def stems(self) -> tuple[str, ...]:
        """Names under which its weights may lie, without ending, the preferred one first."""
        names = (self.name,) if self.declared.file is None else (self.name, self.declared.file)
        stems = [f"{name}{mark}{self.version}" for name in names for mark in "._"]
        published = PurePosixPath(self.declared.url or "").name
        for ending in (".tar.gz", ".tgz", ".tar", ".h5", ".hdf5", ".onnx"):
            published = published.removesuffix(ending)
        if self.version in published:
            stems.append(published)
        return tuple(dict.fromkeys(stems))


def declared(ml: MachineLearning, survey: str) -> tuple[list[Spec], dict[str, str]]:
    """Read the models declared for a survey.

    Returns
    -------
    specs : list of Spec
        Those whose declaration makes sense.
    refused : dict
        Name of each other model, and why.
    """
    section = ml.of(survey)
    specs: list[Spec] = []
    refused: dict[str, str] = {}
    for name, model in section.models.items():
        try:
            specs.append(_spec(survey, name, model, section))
        except ModelError as error:
            refused[name] = str(error)
    return specs, refused


def _spec(survey: str, name: str, model: Model, section: SurveyModels) -> Spec:
    names = model.feature_names
    features = (section.allowed_features if names else ()) if isinstance(names, bool) else names
    unknown = [feature for feature in features if feature not in section.allowed_features]
    if unknown:
        raise ModelError(f"its feature_names hold {', '.join(unknown)}, not among ml.{survey}.allowed_features")
    if not model.triplet and not features:
        raise ModelError("it takes neither triplet nor features: set triplet or feature_names")
    stray = [feature for feature in model.feature_norms if feature not in features]
    if stray:
        raise ModelError(f"its feature_norms hold {', '.join(stray)}, not among its features")
    norms = tuple(model.feature_norms.get(feature, 1.0) for feature in features)
    if not all(math.isfinite(norm) and norm != 0.0 for norm in norms):
        raise ModelError("its feature_norms must be finite and not zero")
    return Spec(survey, name, model, features, norms)
