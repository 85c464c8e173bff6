"""What the fake SkyPortal accepts. Written from its side: tests compare it with what our client sends."""

from __future__ import annotations

import base64
import binascii
import io
from datetime import datetime
from typing import Annotated, Any, Literal

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

Degrees = Annotated[FiniteFloat, Field(ge=-360.0, le=360.0)]
Name = Annotated[str, Field(min_length=1)]
Number = Annotated[str, Field(pattern="^[0-9]+$")]
"""An id as key of a JSON object."""
SIDE = range(16, 501)
"""Allowed width and height of thumbnails, pixels."""


class Shape(BaseModel):
    """The body of a request: no field too many, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Candidate(Shape):
    """Body of ``POST /api/candidates``."""

    id: Name
    ra: Degrees
    dec: Degrees
    score: FiniteFloat | None = None
    filter_ids: list[int] = Field(min_length=1)
    passing_alert_id: int
    passed_at: Name
    origin: str | None = None

    @field_validator("passed_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value


class Annotation(Shape):
    """Body of ``POST /api/sources/{id}/annotations``."""

    obj_id: Name
    origin: Name
    data: dict[str, Any] = Field(min_length=1)
    group_ids: list[int] = Field(min_length=1)


class AnnotationUpdate(Annotation):
    """Body of ``PUT /api/sources/{id}/annotations/{annotation_id}``."""

    author_id: int


class Photometry(Shape):
    """Body of ``PUT /api/photometry``: columns of one length."""

    obj_id: Name
    stream_ids: list[int] = Field(min_length=1)
    instrument_id: int
    mjd: list[FiniteFloat] = Field(min_length=1)
    flux: list[FiniteFloat | None]
    fluxerr: list[FiniteFloat]
    zp: list[FiniteFloat]
    magsys: list[Literal["ab", "vega"]]
    filter: list[Name]
    ra: list[Degrees | None]
    dec: list[Degrees | None]
    origin: list[str | None] | None = None

    @model_validator(mode="after")
    def _columns_are_equally_long(self) -> Photometry:
        columns = ("mjd", "flux", "fluxerr", "zp", "magsys", "filter", "ra", "dec", "origin")
        lengths = {name: len(getattr(self, name)) for name in columns if getattr(self, name) is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")
        return self


class Thumbnail(Shape):
    """Body of ``POST /api/thumbnail``."""

    obj_id: Name
    data: Name
    ttype: Literal["new", "ref", "sub"]

    @field_validator("data")
    @classmethod
    def _is_a_small_png(cls, value: str) -> str:
        try:
            with Image.open(io.BytesIO(base64.b64decode(value, validate=True))) as picture:
                picture.load()
                kind, size = picture.format, picture.size
        except (binascii.Error, UnidentifiedImageError, OSError) as error:
            raise ValueError(f"no readable picture: {error}") from error
        if kind != "PNG" or any(side not in SIDE for side in size):
            raise ValueError(f"a {kind} picture of {size} pixels; only PNG of 16 to 500 pixels a side are taken")
        return value


class Source(Shape):
    """Body of ``POST /api/sources``; without ``ra`` and ``dec`` the object must be there."""

    id: Name
    ra: Degrees | None = None
    dec: Degrees | None = None
    group_ids: list[int] = Field(min_length=1)
    origin: str | None = None
    ignore_if_in_group_ids: dict[Number, list[int]] = {}
    saver_per_group_id: dict[Number, int] = {}


class Comment(Shape):
    """Body of ``POST /api/sources/{id}/comments``."""

    text: Name
    group_ids: list[int] = Field(min_length=1)


class Followup(Shape):
    """Body of ``POST /api/followup_request``."""

    obj_id: Name
    allocation_id: int
    payload: dict[str, Any]
    target_group_ids: list[int] = []
    source_group_ids: list[int] = []
    ignore_source_group_ids: list[int] = []
    ignore_allocation_ids: list[int] = []
    not_if_classified: bool = False
    not_if_spectra_exist: bool = False
    not_if_tns_classified: bool = False
    not_if_tns_reported: float | None = None
    not_if_duplicates: bool = False
    radius: FiniteFloat = 0.5


class FollowupChange(Shape):
    """Body of ``PUT /api/followup_request/{id}``."""

    obj_id: Name
    allocation_id: int
    payload: dict[str, Any]
    target_group_ids: list[int] | None = None


class Allocation(Shape):
    """Body of ``POST /_fake/allocations``: how the facility behind an allocation behaves."""

    id: int
    status: Name = "submitted"
    """What becomes of a request."""
    implements_update: bool = True
    needs: list[str] = []
    """Keys that a payload must have."""


class RequestStatus(Shape):
    """Body of ``POST /_fake/followups/{id}``: what has become of a request."""

    status: Name
    modified: Name | None = None


class Facts(Shape):
    """Body of ``POST /_fake/objects/{id}``: what people have found out about an object."""

    classified: bool = False
    spectra: bool = False
    tns_name: str | None = None
    tns_reported_hours: float | None = None


class Group(Shape):
    """Body of ``POST /_fake/groups``: makes or replaces a group."""

    id: int
    name: Name
    nickname: str | None = None
    filters: dict[str, str]
    """Filter id -> name."""
