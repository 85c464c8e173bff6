"""``/api/skymap``: localizations of events, in whose regions queries may look."""

from __future__ import annotations

import logging

from aiohttp import web

from kowalski.api import answers, bodies, services, skymaps
from kowalski.api.context import USER
from kowalski.api.models.common import Done
from kowalski.api.models.skymaps import (
    NewSkymap,
    SkymapExists,
    SkymapFound,
    SkymapRemoval,
    SkymapRequest,
    SkymapSaved,
    SkymapSelection,
    readable,
)
from kowalski.api.routes import Access, Route
from kowalski.api.skymaps import NoSkymapError
from kowalski.archive import skymaps as stored

log = logging.getLogger(__name__)


async def put(request: web.Request) -> web.Response:
    """Store a localization, or further levels of one."""
    body = await bodies.read(request, NewSkymap)
    saved = await skymaps.save(services.of(request), body)
    if not saved.added:
        message = "skymap already exists with the same contours"
        return answers.plain({"status": "already_exists", "message": message, "data": saved.summary}, status=409)
    added = [readable(level) for level in saved.added]
    name = saved.localization_name
    log.info("skymap %s of %s: levels %s by %s", name, saved.dateobs, added, request[USER].name)
    done = f"added skymap for {name} with contours" if saved.is_new else f"updated skymap for {name} to add contours"
    return answers.success(f"{done} {added}", saved.summary)


async def show(request: web.Request) -> web.Response:
    """Give a localization."""
    wanted = bodies.read_query(request, SkymapRequest)
    document = await stored.find(services.of(request).data, _names(wanted))
    if document is None:
        raise NoSkymapError("no skymap found")
    missing = set(wanted.contours or ()) - set(stored.levels_of(document))
    if missing:
        raise NoSkymapError(f"skymap exists but is missing contours {[readable(level) for level in sorted(missing)]}")
    del document["_id"]
    name = document["localization_name"]
    return answers.success(f"Retrieved skymap {name}", {**document, "dateobs": document["dateobs"].isoformat()})


async def remove(request: web.Request) -> web.Response:
    """Delete a localization."""
    wanted = await bodies.read(request, SkymapRemoval)
    if not await stored.remove(services.of(request).writable, _names(wanted)):
        raise NoSkymapError("no skymap found")
    log.info("skymap %s removed by %s", wanted.localization_name, request[USER].name)
    return answers.success("deleted 1 skymap")


def _names(wanted: SkymapSelection) -> stored.Names:
    aliases = () if wanted.alias is None else (wanted.alias,)
    return stored.Names(wanted.localization_name, wanted.dateobs, wanted.triggerid, aliases)


EVENT = {"dateobs": "2023-06-23T15:42:26"}
ROUTES = (
    Route(
        "PUT",
        "/api/skymap",
        put,
        Access.USER,
        "skymaps",
        "Store a localization, or further credible levels of one",
        "It is the same localization if the name is, and time, trigger or all aliases. Regions are kept as sets of "
        "HEALPix cells (MOC) for queries of type `skymap`, and as GeoJSON outlines for drawing.",
        request=NewSkymap,
        response=SkymapSaved,
        answer={
            "status": "success",
            "message": "added skymap for 90.00000_30.00000_10.00000 with contours [90, 95]",
            "data": {**EVENT, "localization_name": "90.00000_30.00000_10.00000", "contours": [90, 95]},
        },
        errors={409: "it exists with these levels"},
        refusals={409: SkymapExists},
        examples={
            "cone": {**EVENT, "skymap": {"ra": 90, "dec": 30, "error": 10}, "contours": [90, 95]},
            "polygon": {
                **EVENT,
                "triggerid": 42,
                "skymap": {"localization_name": "field", "polygon": [[10, 20], [12, 20], [12, 22], [10, 22]]},
                "contours": 90,
            },
            "cells": {
                **EVENT,
                "aliases": ["LVC#S230623ai"],
                "skymap": {"localization_name": "cwb", "uniq": [1024, 1025], "probdensity": [0.5, 0.1]},
                "contours": [50, 90],
            },
        },
    ),
    Route(
        "GET",
        "/api/skymap",
        show,
        Access.USER,
        "skymaps",
        "Show a localization",
        query=SkymapRequest,
        response=SkymapFound,
        errors={400: "no localization is named", 404: "there is none, or not with these levels"},
    ),
    Route(
        "DELETE",
        "/api/skymap",
        remove,
        Access.USER,
        "skymaps",
        "Delete a localization",
        request=SkymapRemoval,
        response=Done,
        errors={404: "there is none"},
        examples={"cone": {**EVENT, "localization_name": "90.00000_30.00000_10.00000"}},
    ),
)
