"""What goes to SkyPortal and what comes back, call by call (https://skyportal.io/docs/api.html)."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from kowalski.science.photometry import Floats, LightCurve

ORIGIN = "Kowalski"
FORCED_ORIGIN = "alert_fp"
"""Origin of forced photometry: SkyPortal replaces a flux only where the point has an origin."""


class Payload(BaseModel):
    """The body of a call."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Annotation(Answer):
    """An annotation that SkyPortal has."""

    id: int
    origin: str
    author_id: int | None = None


def _with_nulls(column: Floats) -> list[float | None]:
    values: list[float | None] = column.tolist()
    for at in np.flatnonzero(~np.isfinite(column)).tolist():
        values[at] = None
    return values
