"""Bodies and answers of ``/api/filters``."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from kowalski.api.models.common import CatalogName, Request, Success
from kowalski.archive.automation import AutoFollowup, Autosave
from kowalski.config.outlets import OutletName
from kowalski.science.dates import jd_of

MAX_RUN_MS = 300_000
"""Longest time that a filter may run on the archive."""

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


Outlets = Annotated[
    list[OutletName], Field(min_length=1, description="Where passes go; without it, where the configuration says.")
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
    outlets: Outlets | None = None
    active: bool = True
    force: Annotated[bool, Field(description="Make it active however many alerts it passes.")] = False


class FilterChange(Request):
    """What to change of a filter; what is missing stays."""

    filter_id: Number
    active: bool | None = None
    active_fid: Annotated[str, Field(description="The version to use from now on.")] | None = None
    autosave: AutosaveBlock | None = None
    auto_followup: FollowupBlock | None = None
    update_annotations: bool | None = None
    outlets: Outlets | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> FilterChange:
        if self.model_fields_set <= {"filter_id"}:
            raise ValueError(
                "nothing to change: name active, active_fid, autosave, auto_followup, update_annotations or outlets"
            )
        return self


def _julian(given: Any) -> Any:
    if isinstance(given, str):
        return jd_of(datetime.fromisoformat(given))
    if given is not None and not isinstance(given, float):
        raise ValueError("must be a float or a string")
    return given


JulianDate = Annotated[
    float,
    BeforeValidator(_julian),
    Field(ge=0, le=5_000_000, allow_inf_nan=False, description="Julian date, or ISO 8601 as text; UTC."),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}),
]
"""Integers are refused, as they always were: they are rather a date without dashes, or a modified Julian date."""


def _night(given: Any) -> Any:
    return date.fromisoformat(given) if isinstance(given, str) else given


Night = Annotated[
    date,
    BeforeValidator(_night),
    Field(description="A date (UTC), as YYYYMMDD or YYYY-MM-DD."),
    WithJsonSchema({"type": "string", "examples": ["20231012"]}),
]
RunTime = Annotated[int, Field(ge=1, description=f"Time that it may take, at most {MAX_RUN_MS} ms.")]
FilterVersion = Annotated[str, Field(description="The `fid` of a version; without it, the last one that was saved.")]


class _Run(Request):
    """A filter is run on alerts of the archive."""

    filter_version: FilterVersion | None = None
    start_date: JulianDate | None = None
    end_date: JulianDate | None = None
    max_time_ms: RunTime = 30_000

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.max_time_ms > MAX_RUN_MS:
            raise ValueError(f"max_time_ms must be less than 5 minutes (in ms: {MAX_RUN_MS})")
        if (self.start_date is None) != (self.end_date is None):
            raise ValueError("start_date and end_date must be given together")
        if self.start_date is not None and self.end_date is not None and self.end_date < self.start_date:
            raise ValueError("end_date is before start_date")
        return self

    @property
    def span(self) -> tuple[float, float] | None:
        """Start and end."""
        return None if self.start_date is None or self.end_date is None else (self.start_date, self.end_date)


class FilterTest(_Run):
    """On which alerts to test a filter: those of some objects, or of a span of time, or both."""

    object_ids: Annotated[list[str], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.object_ids:
            return self
        if self.span is None:
            raise ValueError("object_ids, or start_date and end_date must be given")
        _check_one_day(*self.span, unless="object_ids is not provided")
        return self


class FilterDryRun(_Run):
    """On which night to run a filter; without one, the last that has alerts."""

    night: Night | None = None

    @model_validator(mode="after")
    def _is_one_night(self) -> Self:
        if self.span is not None:
            if self.night is not None:
                raise ValueError("night, or start_date and end_date must be given, not both")
            _check_one_day(*self.span)
        return self


def _check_one_day(start: float, end: float, unless: str | None = None) -> None:
    if end - start > 1.0 + 1e-6:  # a double has room for 40 microseconds of a Julian date
        condition = f" if {unless}" if unless else ""
        raise ValueError(f"start_date and end_date must be within 1 day of each other{condition}")


class Version(Success):
    """A version that was saved: `fid`, `pipeline`, `created_at`; `active_fid` says which one is active now."""

    data: dict[str, Any]


class Passing(Success):
    """What the filter makes of the alerts that pass."""

    data: list[dict[str, Any]]


class DryRunReport(Success):
    """What the filter would have done.

    `alerts` of the span; on how many of those that it may see it was run (`examined`); how many `passed`; `pass_rate`
    and how many of all would pass (`expected`); `ms_per_alert`; `errors` and `trouble`; the `hours`; the first 1000
    `passes`.
    """

    data: dict[str, Any]


class FilterStatistics(Success):
    """How the versions of a filter do in the broker.

    For each `fid`: how many `alerts` of the survey came by, `passes`, `pass_rate`, `errors`, `ms_per_alert` when it
    runs by itself.
    """

    data: dict[str, Any]


class WholeFilter(Success):
    """A filter with all its versions."""

    data: dict[str, Any]
