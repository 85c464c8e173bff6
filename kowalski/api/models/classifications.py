"""Bodies and answers of ``/api/classifications``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, RootModel, StringConstraints, model_validator

from kowalski.api.models.common import Request, Success

MAX_ALERTS = 1000


def _name(label: str) -> str:
    """Refuse what would not be one field of a document."""
    if "." in label or label.startswith("$") or "\0" in label:
        raise ValueError("a label has no dots or null bytes in it and no dollar sign before it")
    return label


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _scored(value: Any) -> Any:
    """Give 1 to each label of a list or a text with commas."""
    given = _split(value)
    return dict.fromkeys(given, 1.0) if isinstance(given, list) and all(isinstance(x, str) for x in given) else given


def _names(value: Any) -> Any:
    given = _split(value)
    return list(given) if isinstance(given, dict) else given


Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_name)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Scores = Annotated[
    dict[Label, Number],
    BeforeValidator(_scored),
    Field(max_length=200, description="Label -> number; or a list or a text with commas, which gives 1 to each."),
]
Labels = Annotated[
    list[Label],
    BeforeValidator(_names),
    Field(max_length=200, description="Labels, as a list or a text with commas."),
]
Candid = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Kinds(Request):
    @model_validator(mode="after")
    def _says_something(self) -> _Kinds:
        if not self.given:
            raise ValueError("give human_labels or ml_scores")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """Kind -> labels, of those that there are."""
        return {kind: value for kind in ("human_labels", "ml_scores") if (value := getattr(self, kind))}


class NewLabels(_Kinds):
    """What to say of an alert."""

    human_labels: Scores | None = None
    ml_scores: Scores | None = None


class OldLabels(_Kinds):
    """What to say no longer of an alert."""

    human_labels: Labels | None = None
    ml_scores: Labels | None = None


class NewClassifications(RootModel[Annotated[dict[Candid, NewLabels], Field(min_length=1, max_length=MAX_ALERTS)]]):
    """Candid -> what to say of that alert."""


class OldClassifications(RootModel[Annotated[dict[Candid, OldLabels], Field(min_length=1, max_length=MAX_ALERTS)]]):
    """Candid -> what to say no longer of that alert."""


class Classification(Success):
    """What is said of an alert: `candid`, the object's name, `human_labels`, `ml_scores`."""

    data: dict[str, Any]
