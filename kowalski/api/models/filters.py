"""Bodies and answers of ``/api/filters``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from kowalski.api.models.common import CatalogName, Request, Success

AUTOSAVE_KEYS = frozenset({"active", "comment", "ignore_group_ids", "pipeline", "saver_id"})
FOLLOWUP_KEYS = frozenset(
    {
        "active",
        "allocation_id",
        "comment",
        "ignore_allocation_ids",
        "implements_update",
        "not_if_tns_reported",
        "payload",
        "pipeline",
        "priority_order",
        "radius",
        "target_group_ids",
        "validity_days",
    }
)
PRIORITY_ORDERS = ("asc", "desc")

Number = Annotated[int, Field(ge=1)]
PipelineText = Annotated[
    list[dict[str, Any]] | str, Field(description="Stages of an aggregation, as a list or as (Extended) JSON text.")
]
Autosave = Annotated[
    bool | dict[str, Any],
    Field(description=f"Whether passing objects are saved, or how: keys {', '.join(sorted(AUTOSAVE_KEYS))}."),
]
Followup = Annotated[
    dict[str, Any], Field(description=f"What follow-up to ask for: keys {', '.join(sorted(FOLLOWUP_KEYS))}.")
]


class NewFilter(Request):
    """A filter, or a new version of one that exists; a new version becomes the active one."""

    group_id: Number
    filter_id: Number
    catalog: CatalogName
    permissions: Annotated[list[int], Field(description="Program ids that the filter may see.")]
    pipeline: PipelineText
    autosave: Autosave = False
    auto_followup: Followup = {}
    update_annotations: bool = False
    active: bool = True


class FilterChange(Request):
    """What to change of a filter; what is missing stays."""

    filter_id: Number
    active: bool | None = None
    active_fid: Annotated[str, Field(description="The version to use from now on.")] | None = None
    autosave: Autosave | None = None
    auto_followup: Followup | None = None
    update_annotations: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> FilterChange:
        if self.model_fields_set <= {"filter_id"}:
            raise ValueError(
                "nothing to change: name active, active_fid, autosave, auto_followup or update_annotations"
            )
        return self


class Version(Success):
    """A version that was saved: `fid`, `pipeline`, `created_at`."""

    data: dict[str, Any]


class WholeFilter(Success):
    """A filter with all its versions."""

    data: dict[str, Any]
