"""``/api/cutouts``: stamps of alerts, as FITS files and as pictures."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from kowalski import surveys
from kowalski.api import alerts, bodies, services
from kowalski.api.context import USER
from kowalski.api.errors import ApiError, NotFoundError
from kowalski.api.models.cutouts import CutoutStyle
from kowalski.api.routes import Access, Route
from kowalski.science import cutouts
from kowalski.science.cutouts import Style
from kowalski.science.stamps import StampError
from kowalski.surveys import Survey

CUTOUTS = ("science", "template", "difference")
FORMATS = {"fits": "image/fits", "png": "image/png"}
EDITION = 1
"""To be changed with how stamps are drawn: then pictures that clients keep are no longer good."""
KEEP = "private, max-age=86400"
"""Stamps never change; but who may see them does."""


async def show(request: web.Request) -> web.Response:
    """Give a stamp."""
    survey = alerts.survey_of(request.match_info["survey"])
    candid = alerts.candid_of(request.match_info["candid"])
    cutout, file_format = request.match_info["cutout"].lower(), request.match_info["file_format"]
    if cutout not in CUTOUTS:
        raise ApiError(f"cutout {cutout[:50]} not in [{', '.join(CUTOUTS)}]")
    if file_format not in FORMATS:
        raise ApiError(f"file format {file_format[:50]} not in [{', '.join(FORMATS)}]")
    style = bodies.read_query(request, CutoutStyle).style(cutout) if file_format == "png" else None
    field = survey.stamp_fields[CUTOUTS.index(cutout)]
    document = await alerts.get(services.of(request), request[USER], survey, candid, [field])
    stamp: bytes | None = getattr(survey.stamps_of(document), cutout)
    if not stamp:
        raise NotFoundError(f"cutout {cutout} not found in {survey.name.lower()} alert {candid}")
    tag = _tag(stamp, survey, style)
    headers = {"ETag": f'"{tag}"', "Cache-Control": KEEP, "Vary": "Authorization"}
    if _is_known(request, tag):
        return web.Response(status=304, headers=headers)
    try:
        content = await asyncio.to_thread(_made, stamp, survey, style)
    except StampError as error:
        raise ApiError(f"cutout {cutout} of {survey.name.lower()} alert {candid} can't be read: {error}") from error
    if style is None:
        name = _file_name(document.get(field), f"{survey.name.lower()}_{candid}_{cutout}.fits")
        headers["Content-Disposition"] = f"Attachment;filename={name}"
    return web.Response(body=content, content_type=FORMATS[file_format], headers=headers)


async def show_as_before(request: web.Request) -> web.Response:
    """Give a stamp by the path that clients used at first."""
    return await show(request)


def _made(stamp: bytes, survey: Survey, style: Style | None) -> bytes:
    if style is None:
        return cutouts.fits_file(stamp, survey.stamp_orientation)
    return cutouts.picture(stamp, survey.stamp_orientation, style)


def _tag(stamp: bytes, survey: Survey, style: Style | None) -> str:
    about = f"{EDITION} {survey.stamp_orientation} {style}".encode()
    return hashlib.blake2b(about + stamp, digest_size=16).hexdigest()


def _is_known(request: web.Request, tag: str) -> bool:
    """Whether the client has this already."""
    return any(known.value in (tag, "*") for known in request.if_none_match or ())


def _file_name(stored: Any, otherwise: str) -> str:
    name = stored.get("fileName") if isinstance(stored, Mapping) else None
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.removesuffix(".gz")) if isinstance(name, str) and name else otherwise


PARAMETERS = {
    "survey": {"type": "string", "description": "In any case.", "examples": [name.lower() for name in surveys.SURVEYS]},
    "candid": {"type": "integer", "format": "int64"},
    "cutout": {"type": "string", "enum": list(CUTOUTS)},
    "file_format": {"type": "string", "enum": list(FORMATS)},
}
ANSWERS: Mapping[str, Any] = {
    "access": Access.USER,
    "tag": "cutouts",
    "query": CutoutStyle,
    "produces": {
        "image/fits": "headers as they came, the image turned as the survey shows it",
        "image/png": "a picture of 168 x 168 pixels",
    },
    "errors": {
        400: "a part of the path is unknown, or the stamp can't be read",
        404: "there is no such alert or stamp",
    },
    "parameters": PARAMETERS,
}
ROUTES = (
    Route(
        "GET",
        "/api/cutouts/{survey}/{candid}/{cutout}/{file_format}",
        show,
        summary="Show a stamp of an alert",
        description="Answers have an `ETag`; one that comes back as `If-None-Match` is answered with 304.",
        **ANSWERS,
    ),
    Route(
        "GET",
        "/lab/{survey:[A-Za-z0-9]+}-alerts/{candid}/cutout/{cutout}/{file_format}",
        show_as_before,
        summary="Show a stamp of an alert, by the path that clients used at first",
        **ANSWERS,
    ),
)
