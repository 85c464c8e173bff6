"""What a filter's owner has asked to happen to an alert that passes: save its source, ask for follow-up.

These models say what the blocks ``autosave`` and ``auto_followup`` of a stored filter may hold. They are stored as they
were sent, their pipelines as Extended JSON text; a key that is missing, null or blank has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Pipeline = list[dict[str, Any]] | str
"""Stages that run on an alert that passes, behind the same first stages as the filter's; a list or Extended JSON."""

Number = Annotated[int, Field(ge=1)]

PRIORITY_KEYS = ("urgency", "Urgency", "priority")
"""Under which names facilities take a priority in the payload; the first that is there counts."""


class Block(BaseModel):
    """What both have: a switch, a comment and a further condition.

    Attributes
    ----------
    active
        Whether it happens at all.
    comment
        Posted to the source when it happens.
    pipeline
        Must give exactly one document, else it does not happen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    active: bool = False
    comment: str | None = None
    pipeline: Pipeline | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            key: value
            for key, value in given.items()
            if value is not None and not (isinstance(value, str) and not value.strip())
        }


class Autosave(Block):
    """Save the source of an alert that passes.

    Attributes
    ----------
    ignore_group_ids
        Nothing is saved if the source is saved to one of these groups already.
    saver_id
        The SkyPortal user in whose name it is saved.
    """

    ignore_group_ids: list[Number] = []
    saver_id: Number | None = None

    @classmethod
    def of(cls, stored: bool | Mapping[str, Any] | None) -> Self:
        """Read what a filter holds: a switch alone, or a block.

        Raises
        ------
        pydantic.ValidationError
            If it is neither.
        """
        return cls(active=stored) if isinstance(stored, bool) else cls.model_validate(stored or {})


class AutoFollowup(Block):
    """Ask for follow-up of an alert that passes and is saved.

    Attributes
    ----------
    allocation_id
        The SkyPortal allocation that pays for it.
    payload
        What the facility is asked for; values of keys that are here may be replaced by the pipeline's ``payload``.
    priority_order
        Whether a larger number is more urgent (``asc``) or less (``desc``); one order per allocation.
    target_group_ids
        Groups that see the request, beside the filter's own.
    ignore_allocation_ids
        Nothing is asked for if one of these allocations has a request for the source.
    not_if_tns_reported
        Hours: SkyPortal's condition on the age of the source's report to TNS.
    radius
        Within how many arcsec requests are for the same object.
    validity_days
        For how many days from now the request holds.
    implements_update
        Whether the facility lets the priority of a request be changed.
    """

    allocation_id: Number | None = None
    payload: dict[str, Any] = {}
    priority_order: Literal["asc", "desc"] | None = None
    target_group_ids: list[Number] = []
    ignore_allocation_ids: list[Number] = []
    not_if_tns_reported: Annotated[float, Field(ge=0)] | None = None
    radius: Annotated[float, Field(gt=0)] = 0.5
    validity_days: Annotated[float, Field(gt=0)] = 7
    implements_update: bool = True

    @field_validator("payload")
    @classmethod
    def _has_a_numeric_priority(cls, payload: dict[str, Any]) -> dict[str, Any]:
        name = next((key for key in PRIORITY_KEYS if key in payload), None)
        if name is None:
            return payload
        try:
            float(payload[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a number") from error
        return payload
