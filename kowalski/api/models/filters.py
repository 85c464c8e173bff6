"""Bodies and answers of ``/api/filters``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, model_validator

from kowalski.api.models.common import CatalogName, Request, Success
from kowalski.archive.automation import AutoFollowup, Autosave

Number = Annotated[int, Field(ge=1)]
PipelineText = Annotated[
    list[dict[str, Any]] | str, Field(description="Stages of an aggregation, as a list or as (Extended) JSON text.")
]
AutosaveBlock = Annotated[
    bool | dict[str, Any],
    Field(description="Whether passing objects are saved, or how."),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, Autosave.model_json_schema()]}),
]
FollowupBlock = Annotated[
    dict[str, Any],
    Field(description="What follow-up to ask for."),
    WithJsonSchema(AutoFollowup.model_json_schema()),
]


class NewFilter(Request):
    """A filter, or a new version of one that exists; a new version becomes the active one."""

    group_id: Number
    filter_id: Number
    catalog: CatalogName
    permissions: Annotated[list[int], Field(description="Program ids that the filter may see.")]
    pipeline: PipelineText
    autosave: AutosaveBlock = False
    auto_followup: FollowupBlock = {}
    update_annotations: bool = False
    active: bool = True


class FilterChange(Request):
    """What to change of a filter; what is missing stays."""

    filter_id: Number
    active: bool | None = None
    active_fid: Annotated[str, Field(description="The version to use from now on.")] | None = None
    autosave: AutosaveBlock | None = None
    auto_followup: FollowupBlock | None = None
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
