"""Localizations that users hand in: from any of their forms to what is stored."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kowalski.api import downloads
from kowalski.api.downloads import NotThereError
from kowalski.api.errors import ApiError, InvalidRequestError
from kowalski.api.models.skymaps import CentredPolygon, NewSkymap, SkymapForms, cone_name, readable
from kowalski.api.services import Services
from kowalski.archive import skymaps as stored
from kowalski.archive.client import Document
from kowalski.config.serving import Skymaps as Limits
from kowalski.science import contours, skymap_files, skymaps, voevents
from kowalski.science.skymaps import Skymap, SkymapError
from kowalski.science.voevents import Event, VOEventError

MAX_RANGES = 50_000
"""Runs of cells of a stored region: with all its levels a document stays below MongoDB's 16 MB."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of a request.

    Attributes
    ----------
    added
        Levels that were stored, in per cent; none if all were there.
    levels
        All that the localization has now.
    is_new
        Whether there was none before.
    """

    dateobs: datetime
    localization_name: str
    added: Sequence[float]
    levels: Sequence[float]
    is_new: bool

    @property
    def summary(self) -> dict[str, Any]:
        """What clients are told."""
        return {
            "dateobs": self.dateobs.isoformat(),
            "localization_name": self.localization_name,
            "contours": [readable(level) for level in self.levels],
        }


async def save(services: Services, body: NewSkymap) -> Saved:
    """Store a localization, or those of its levels that are missing.

    Raises
    ------
    ApiError
        If it is not as it must be, or its map can't be had; the text says why.
    """
    event = await _event(body)
    given = body.dateobs or (event.at if event else None)
    assert given is not None  # the model has seen to that
    dateobs = given.replace(microsecond=given.microsecond // 1000 * 1000)  # what MongoDB keeps
    trigger = body.triggerid if body.triggerid is not None or event is None else event.trigger
    aliases = body.aliases if body.aliases is not None or event is None else list(event.aliases)
    forms = list(_forms(services, body, event))
    for number, form in enumerate(forms, 1):
        names = stored.Names(form.name, dateobs, trigger, aliases or (), exactly=True)
        known = await stored.find(services.data, names, "levels")
        levels = stored.levels_of(known or {})
        missing = [level for level in body.contours if level not in levels]
        if not missing:
            return Saved(dateobs, form.name, (), levels, is_new=False)
        try:
            data = await _fetched(services, form)
        except NotThereError:
            if number == len(forms):
                raise
            continue
        facts = {"dateobs": dateobs, "localization_name": form.name, "aliases": aliases or []}
        drawn = await _drawn(services, form, data, missing)
        document = {**facts, **({} if trigger is None else {"triggerid": trigger}), **drawn}
        everything = await stored.save(services.writable, document, names)
        return Saved(dateobs, form.name, missing, everything, is_new=known is None)
    raise AssertionError("there is a form, or an error has said so")


async def _event(body: NewSkymap) -> Event | None:
    if body.voevent is None:
        return None
    try:
        return await asyncio.to_thread(voevents.parse, body.voevent)
    except VOEventError as error:
        raise InvalidRequestError(f"voevent: {error}") from error


def _forms(services: Services, body: NewSkymap, event: Event | None) -> Iterator[SkymapForms]:
    """Tell in which forms a localization can be had, best first."""
    if body.skymap is not None:
        yield body.skymap
        return
    assert event is not None
    allowed = event.map_url is not None and downloads.is_allowed(event.map_url, services.settings.skymaps.allowed_urls)
    if allowed:
        yield SkymapForms(url=event.map_url)
    if event.cone is not None:
        ra, dec, sigma = event.cone
        yield SkymapForms(ra=ra, dec=dec, error=sigma, localization_name=cone_name(ra, dec, sigma))
    elif not allowed:
        where = f"; its map is at {event.map_url}, which this instance may not fetch" if event.map_url else ""
        raise InvalidRequestError(f"voevent: it has no position with an error{where}")


async def _fetched(services: Services, form: SkymapForms) -> bytes | None:
    if form.form != "url" or form.url is None:
        return None
    limits = services.settings.skymaps
    return await downloads.fetch(form.url, limits.allowed_urls, limits.timeout_seconds)


async def _drawn(services: Services, form: SkymapForms, data: bytes | None, levels: Sequence[float]) -> Document:
    loop = asyncio.get_running_loop()
    limits = services.settings.skymaps
    try:
        return await loop.run_in_executor(services.heavy, draw, form, data, levels, limits)
    except SkymapError as error:
        raise InvalidRequestError(f"skymap: {error}") from error


def draw(form: SkymapForms, data: bytes | None, levels: Sequence[float], limits: Limits) -> Document:
    """Make of a localization the part of its document that is computed: ``contours``, ``moc`` and ``levels``.

    Parameters
    ----------
    data
        The file that was fetched, for a form that names one.
    levels
        Credible levels in per cent.

    Raises
    ------
    SkymapError
        If it is no localization, or too large.
    """
    skymap = _skymap(form, data, limits)
    ra, dec = skymap.peak
    centre = {"type": "Point", "properties": {"credible_level": 0}, "coordinates": [ra - 180.0, dec]}
    outlines: Document = {"center": centre}
    regions: Document = {}
    for level, region in skymap.regions(levels).items():
        name = stored.level_name(level)
        outlines[f"contour{name}"] = contours.multipolygon(region, level)
        regions[name] = region.within(MAX_RANGES).document()
    return {"contours": outlines, "moc": regions, "levels": list(levels)}


def _skymap(form: SkymapForms, data: bytes | None, limits: Limits) -> Skymap:
    match form.form:
        case "cells":
            if len(form.uniq or ()) > limits.max_cells:
                raise SkymapError(f"the map has more than {limits.max_cells} cells")
            return skymaps.from_uniq(form.uniq or [], form.probdensity or [])
        case "url" | "file":
            content = _decoded(form.content or "") if data is None else data
            return skymap_files.read(content, max_bytes=limits.max_bytes, max_cells=limits.max_cells)
        case "cone":
            return skymaps.cone(form.ra or 0.0, form.dec or 0.0, form.error or 0.0)
        case "polygon":
            if isinstance(form.polygon, CentredPolygon):
                return skymaps.polygon(form.polygon.corners, form.polygon.center)
            return skymaps.polygon(form.polygon or [])
        case "ellipse":
            return skymaps.ellipse(form.ra or 0.0, form.dec or 0.0, form.amaj or 0.0, form.amin or 0.0, form.phi or 0.0)


def _decoded(content: str) -> bytes:
    """Decode base64, with or without ``data:…;base64,`` before it."""
    text = content.partition(",")[2] if content.startswith("data:") else content
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SkymapError(f"content is not valid base64: {error}") from error


class NoSkymapError(ApiError):
    """There is no such localization, or not with these levels."""

    status = 404
