"""Bodies and answers of ``/api/skymap``, and how queries name a localization."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from kowalski.api.models.common import Request, Success

MAX_LEVELS = 20
MAX_CORNERS = 10_000
DIGITS = 4
"""Of a level in per cent, after the point."""


def _utc(value: Any) -> Any:
    """Read a time of event; one with a zone is turned into UTC."""
    if not isinstance(value, str):
        return value
    try:
        at = datetime.fromisoformat(value.strip())
        return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ValueError("must be a time as YYYY-MM-DDTHH:MM:SS[.ffffff]") from error


def _levels(value: Any) -> Any:
    """Take one level, a list of them, or a text with commas."""
    given = value if isinstance(value, list) else [value]
    return [part for item in given for part in (item.split(",") if isinstance(item, str) else [item])]


def _ascending(levels: list[float]) -> list[float]:
    return sorted({round(level, DIGITS) for level in levels})


def _corners(value: Any) -> Any:
    """Take a polygon as JSON text, too."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("neither a list of [ra, dec] nor one as JSON text") from error


Level = Annotated[float, Field(ge=10**-DIGITS, le=100, allow_inf_nan=False)]
Levels = Annotated[
    list[Level],
    BeforeValidator(_levels),
    AfterValidator(_ascending),
    Field(
        min_length=1,
        max_length=MAX_LEVELS,
        description="Credible levels in per cent: a number, a list, or a text such as `50,90`.",
    ),
]
Time = Annotated[
    datetime,
    BeforeValidator(_utc),
    Field(description="Time of the event, `YYYY-MM-DDTHH:MM:SS[.ffffff]`, UTC."),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Alias = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Trigger = Annotated[int, Field(ge=0, le=2**63 - 1)] | Annotated[str, StringConstraints(min_length=1, max_length=100)]
RightAscension = Annotated[float, Field(ge=0, le=360, allow_inf_nan=False)]
Declination = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Angle = Annotated[float, Field(gt=0, le=180, allow_inf_nan=False)]
Axis = Annotated[float, Field(gt=0, le=90, allow_inf_nan=False)]
Corner = tuple[RightAscension, Declination]
Corners = Annotated[list[Corner], Field(min_length=3, max_length=MAX_CORNERS)]


class CentredPolygon(Request):
    """A polygon and a position inside it."""

    center: Corner
    corners: Corners


class SkymapForms(Request):
    """A localization in one of the forms, looked for in this order.

    `uniq` and `probdensity`: a multi-order map. `url`: a FITS file to fetch, if the instance allows that. `content`: a
    FITS file in base64, also as a data URI. `ra`, `dec`, `error`: a Gaussian around a position. `polygon`: a uniform
    polygon. `ra`, `dec`, `amaj`, `amin`, `phi`: a uniform ellipse. Angles are in degrees. All but the Gaussian and the
    file behind a URL need `localization_name`.
    """

    localization_name: Name | None = None
    uniq: list[Annotated[int, Field(ge=4, lt=2**62)]] | None = None
    probdensity: list[float] | None = None
    url: Annotated[str, StringConstraints(max_length=2000)] | None = None
    content: str | None = None
    ra: RightAscension | None = None
    dec: Declination | None = None
    error: Annotated[Angle, Field(description="One standard deviation.")] | None = None
    polygon: (
        Annotated[
            CentredPolygon | Corners,
            BeforeValidator(_corners),
            Field(description="Corners `[[ra, dec], …]`, `{center, corners}`, or either as JSON text."),
        ]
        | None
    ) = None
    amaj: Annotated[Axis, Field(description="Semi-major axis.")] | None = None
    amin: Annotated[Axis, Field(description="Semi-minor axis.")] | None = None
    phi: (
        Annotated[float, Field(ge=-360, le=360, description="Position angle of the major axis, from north to east.")]
        | None
    ) = None

    @property
    def form(self) -> Literal["cells", "url", "file", "cone", "polygon", "ellipse"]:
        """Which form it has."""
        if self.uniq is not None and self.probdensity is not None:
            return "cells"
        if self.url is not None:
            return "url"
        if self.content is not None:
            return "file"
        if None not in (self.ra, self.dec, self.error):
            return "cone"
        return "polygon" if self.polygon is not None else "ellipse"

    @property
    def name(self) -> str:
        """Name of the localization."""
        if self.form == "cone":
            return cone_name(self.ra or 0.0, self.dec or 0.0, self.error or 0.0)
        if self.localization_name is None and self.url is not None:
            return self.url.rpartition("/")[2] or self.url
        return self.localization_name or ""

    @model_validator(mode="after")
    def _is_whole(self) -> SkymapForms:
        if self.form == "ellipse":
            if None in (self.ra, self.dec, self.amaj, self.amin, self.phi):
                raise ValueError(
                    "give uniq and probdensity, url, content, polygon, or ra and dec with error or with amaj, amin, phi"
                )
            if (self.amin or 0.0) > (self.amaj or 0.0):
                raise ValueError("amin must not be larger than amaj")
        if not self.name:
            raise ValueError("localization_name is missing")
        return self


def cone_name(ra: float, dec: float, error: float) -> str:
    """Name a Gaussian localization by what it is."""
    return f"{ra:.5f}_{dec:.5f}_{error:.5f}"


class NewSkymap(Request):
    """A localization, or further credible levels of one."""

    contours: Levels = [90.0, 95.0]
    dateobs: Time | None = None
    triggerid: Trigger | None = None
    aliases: Annotated[list[Alias], Field(max_length=100)] | None = None
    voevent: Annotated[str, Field(description="A VOEvent 2.0, from which all that is not given is taken.")] | None = (
        None
    )
    skymap: SkymapForms | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> NewSkymap:
        if self.voevent is None and self.skymap is None:
            raise ValueError("give a skymap or a voevent")
        if self.voevent is None and self.dateobs is None:
            raise ValueError("dateobs is missing")
        return self


class SkymapSelection(Request):
    """Which localization: one of the first three is needed."""

    dateobs: Time | None = None
    triggerid: Trigger | None = None
    alias: Alias | None = None
    localization_name: Name | None = None

    @model_validator(mode="after")
    def _finds_one(self) -> SkymapSelection:
        if self.dateobs is None and self.triggerid is None and self.alias is None:
            raise ValueError("must provide dateobs, triggerid, or alias")
        return self


class SkymapRequest(SkymapSelection):
    """Which localization, and which credible levels it must have."""

    contours: Levels | None = None


class SkymapRemoval(SkymapSelection):
    """Which localization to delete."""

    localization_name: Name


class SkymapSummary(BaseModel):
    """A stored localization."""

    dateobs: str
    localization_name: str
    contours: Annotated[list[float], Field(description="Its credible levels in per cent.")]


class SkymapSaved(Success):
    """A localization that was stored or has further levels now."""

    data: SkymapSummary


class SkymapExists(BaseModel):
    """Nothing was done: the localization has these levels already."""

    status: Literal["already_exists"]
    message: str
    data: SkymapSummary


class SkymapFound(Success):
    """A localization: `dateobs`, `localization_name`, `aliases`, `triggerid`, and `contours` as GeoJSON.

    Longitudes are right ascension minus 180 degrees. `contours.center` is where it is most probable.
    """

    data: dict[str, Any]


def readable(level: float) -> float | int:
    """Give a whole number as such."""
    return int(level) if math.isclose(level, round(level)) else level
