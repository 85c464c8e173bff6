"""What goes to SkyPortal and what comes back, call by call (https://skyportal.io/docs/api.html)."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from kowalski.science.photometry import Floats, LightCurve

ORIGIN = "Kowalski"
FORCED_ORIGIN = "alert_fp"
"""Origin of forced photometry: SkyPortal replaces a flux only where the point has an origin."""


class Payload(BaseModel):
    """The body of a call."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    optional: ClassVar[frozenset[str]] = frozenset()
    """Fields that are left out where they say nothing."""

    def body(self) -> dict[str, Any]:
        """Give the fields as they are sent."""
        fields = self.model_dump().items()
        return {key: value for key, value in fields if key not in self.optional or value not in (None, [], {})}


class CandidatePost(Payload):
    """``POST /api/candidates``: an alert of an object has passed filters."""

    id: str
    ra: float
    dec: float
    score: float | None
    filter_ids: list[int] = Field(min_length=1)
    passing_alert_id: int
    passed_at: datetime
    origin: str = ORIGIN

    @field_serializer("passed_at")
    def _utc(self, value: datetime) -> str:
        # SkyPortal stores it without a time zone, and it is part of the key that tells a repeated call
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")


class AnnotationPost(Payload):
    """``POST /api/sources/{obj_id}/annotations``: what a filter says of an object."""

    obj_id: str
    origin: str
    data: dict[str, Any] = Field(min_length=1)
    group_ids: list[int]


class AnnotationPut(AnnotationPost):
    """``PUT /api/sources/{obj_id}/annotations/{annotation_id}``."""

    author_id: int | None


class PhotometryPut(Payload):
    """``PUT /api/photometry``: columns of equal length; SkyPortal leaves out points that it has."""

    obj_id: str
    stream_ids: list[int]
    instrument_id: int
    mjd: list[float]
    flux: list[float | None]
    fluxerr: list[float]
    zp: list[float]
    magsys: list[str]
    filter: list[str]
    ra: list[float | None]
    dec: list[float | None]
    origin: list[str | None]

    @classmethod
    def of(
        cls, curve: LightCurve, *, obj_id: str, stream_id: int, instrument_id: int, origin: str | None = None
    ) -> PhotometryPut:
        """Write a light curve as SkyPortal's columns; NaN becomes null."""
        return cls(
            obj_id=obj_id,
            stream_ids=[stream_id],
            instrument_id=instrument_id,
            mjd=curve.mjd.tolist(),
            flux=_with_nulls(curve.flux),
            fluxerr=curve.fluxerr.tolist(),
            zp=curve.zp.tolist(),
            magsys=["ab"] * len(curve),
            filter=curve.band.tolist(),
            ra=_with_nulls(curve.ra),
            dec=_with_nulls(curve.dec),
            origin=[origin] * len(curve),
        )


class ThumbnailPost(Payload):
    """``POST /api/thumbnail``: a picture of an object, PNG in base64."""

    obj_id: str
    data: str
    ttype: Literal["new", "ref", "sub"]

    @classmethod
    def of(cls, png: bytes, *, obj_id: str, ttype: Literal["new", "ref", "sub"]) -> ThumbnailPost:
        """Wrap a PNG file."""
        return cls(obj_id=obj_id, data=base64.b64encode(png).decode("ascii"), ttype=ttype)


class SourcePost(Payload):
    """``POST /api/sources``: saves an object to groups.

    Attributes
    ----------
    ignore_if_in_group_ids
        Group -> groups; it does not get the object if one of these holds it.
    saver_per_group_id
        Group -> user in whose name it is saved.
    """

    optional = frozenset({"ignore_if_in_group_ids", "saver_per_group_id"})

    id: str
    group_ids: list[int] = Field(min_length=1)
    origin: str = ORIGIN
    ignore_if_in_group_ids: dict[str, list[int]] = {}
    saver_per_group_id: dict[str, int] = {}


class CommentPost(Payload):
    """``POST /api/sources/{obj_id}/comments``."""

    text: str = Field(min_length=1)
    group_ids: list[int] = Field(min_length=1)


class FollowupPost(Payload):
    """``POST /api/followup_request``: asks for follow-up, under conditions that SkyPortal checks.

    Attributes
    ----------
    source_group_ids
        Groups that must hold the object.
    ignore_source_group_ids
        Groups that must not hold it.
    ignore_allocation_ids
        Further allocations in which a request counts as a duplicate.
    not_if_tns_reported
        Hours since a report to the TNS from which on nothing is asked for.
    radius
        Sources within so many arcseconds count as the object.
    """

    optional = frozenset({"ignore_source_group_ids", "ignore_allocation_ids", "not_if_tns_reported"})

    obj_id: str
    allocation_id: int
    target_group_ids: list[int]
    payload: dict[str, Any]
    source_group_ids: list[int]
    not_if_classified: bool
    not_if_spectra_exist: bool
    not_if_tns_classified: bool
    not_if_duplicates: bool
    radius: float
    ignore_source_group_ids: list[int] = []
    ignore_allocation_ids: list[int] = []
    not_if_tns_reported: float | None = None


class FollowupPut(Payload):
    """``PUT /api/followup_request/{id}``."""

    obj_id: str
    allocation_id: int
    payload: dict[str, Any]


class Answer(BaseModel):
    """Part of an answer; SkyPortal may say more than we read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Named(Answer):
    """Something with an id and a name: instrument, stream, filter."""

    id: int
    name: str | None = None


class Group(Answer):
    """A group of users and its filters."""

    name: str
    nickname: str | None = None
    filters: list[Named] = []

    @property
    def shown(self) -> str:
        """The name by which users know the group."""
        return self.nickname or self.name


class SourceName(Answer):
    """A source in a list of sources."""

    id: str


class SourcePage(Answer):
    """A page of ``GET /api/sources``."""

    sources: list[SourceName]


class Annotation(Answer):
    """An annotation that SkyPortal has."""

    id: int
    origin: str
    author_id: int | None = None


class SourceGroup(Answer):
    """A group that holds an object, or sees a comment or request."""

    id: int


class Saved(Answer):
    """What became of a ``POST /api/sources``; older versions of SkyPortal don't name the groups."""

    saved_to_groups: list[int] | None = None


class Comment(Answer):
    """A comment that SkyPortal has."""

    id: int
    text: str
    groups: list[SourceGroup] = []


class FollowupRequest(Answer):
    """A follow-up request that SkyPortal has; ``modified`` is UTC without a time zone."""

    id: int
    obj_id: str
    allocation_id: int
    status: str = ""
    modified: datetime | None = None
    payload: dict[str, Any] = {}
    target_groups: list[SourceGroup] = []


class FollowupRequests(Answer):
    """A page of follow-up requests."""

    followup_requests: list[FollowupRequest]


class FollowupAnswer(Answer):
    """What became of a ``POST /api/followup_request``: ``ignored`` if a condition was not met, which one tells
    ``message``.
    """

    id: int | None = None
    ignored: bool = False
    message: str | None = None


def _with_nulls(column: Floats) -> list[float | None]:
    values: list[float | None] = column.tolist()
    for at in np.flatnonzero(~np.isfinite(column)).tolist():
        values[at] = None
    return values
