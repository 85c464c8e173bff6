"""Localizations over HTTP, and what queries find in their regions."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from astropy.io import fits
from cdshealpix import nested
from pymongo import MongoClient

from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.science.coordinates import separation
from kowalski.science.mocs import Moc, cells_of_sky

EVENT = {"dateobs": "2023-06-23T15:42:26", "aliases": ["LVC#S230623ai"], "triggerid": 42}
AT = {"dateobs": EVENT["dateobs"]}
CONE = "90.00000_30.00000_10.00000"
STARS = 3000


async def put(user: Any, skymap: dict[str, Any], contours: Any = (90,), **fields: Any) -> tuple[int, dict[str, Any]]:
    """Store a map of the event."""
    levels = list(contours) if isinstance(contours, tuple) else contours
    found: tuple[int, dict[str, Any]] = await user(
        "PUT", "/api/skymap", {**EVENT, "skymap": skymap, "contours": levels, **fields}
    )
    return found


async def test_a_localization_is_stored_extended_shown_and_deleted(user: Any) -> None:
    cone = {"ra": 90, "dec": 30, "error": 10}
    summary = {"dateobs": EVENT["dateobs"], "localization_name": CONE, "contours": [90]}
    status, answer = await put(user, cone)
    assert (status, answer["message"], answer["data"]) == (200, f"added skymap for {CONE} with contours [90]", summary)
    status, answer = await put(user, cone, (95, 90, 99.5))
    assert (status, answer["message"]) == (200, f"updated skymap for {CONE} to add contours [95, 99.5]")
    status, answer = await put(user, cone, "95,90")
    expected = {
        "status": "already_exists",
        "message": "skymap already exists with the same contours",
        "data": {**summary, "contours": [90, 95, 99.5]},
    }
    assert (status, answer) == (409, expected)

    (alias,) = EVENT["aliases"]
    for parameters in ({**AT, "contours": "90,95"}, {"triggerid": "42"}, {"alias": alias, "contour": "90"}):
        status, answer = await user("GET", "/api/skymap", params=parameters)
        assert (status, answer["status"]) == (200, "success"), answer
        found = answer["data"]
        assert (found["dateobs"], found["localization_name"]) == (EVENT["dateobs"], CONE)
        assert found["aliases"] == [alias]
        assert set(found["contours"]) == {"center", "contour90", "contour95", "contour99_5"}
        assert found["contours"]["center"]["coordinates"] == pytest.approx([-90.0, 30.0], abs=0.5)
        assert found["contours"]["contour95"]["type"] == "MultiPolygon"
        assert "_id" not in found
    status, answer = await user("GET", "/api/skymap?contours=90&contours=95&alias=LVC%23S230623ai")
    assert status == 200

    remove = {"localization_name": CONE, **AT}
    assert (await user("DELETE", "/api/skymap", remove))[1]["message"] == "deleted 1 skymap"
    status, answer = await user("DELETE", "/api/skymap", remove)
    assert (status, answer["message"]) == (404, "no skymap found")


async def test_what_get_and_delete_refuse(user: Any) -> None:
    await put(user, {"ra": 1, "dec": 2, "error": 3})
    for method, given, status, reason in (
        ("GET", {}, 400, "must provide dateobs, triggerid, or alias"),
        ("GET", {"localization_name": "x"}, 400, "must provide dateobs, triggerid, or alias"),
        ("GET", {"dateobs": "yesterday"}, 400, "must be a time"),
        ("GET", {"dateobs": "0001-01-01T00:00:00+23:00"}, 400, "must be a time"),
        ("GET", {"alias": "nobody"}, 404, "no skymap found"),
        ("GET", {**AT, "contours": "20"}, 404, "skymap exists but is missing contours [20]"),
        ("GET", {**AT, "contours": "many"}, 400, "contours"),
        ("DELETE", AT, 400, "localization_name"),
        ("DELETE", {"localization_name": "x"}, 400, "must provide dateobs, triggerid, or alias"),
    ):
        options = {"params": given} if method == "GET" else {"body": given}
        found, answer = await user(method, "/api/skymap", **options)
        assert (found, answer["status"]) == (status, "error"), (method, given)
        assert reason in answer["message"], (method, given)
    async with user.http.get("/api/skymap") as answer:
        assert answer.status == 401


def packed(columns: dict[str, Any], **header: Any) -> str:
    """A FITS table in gzip, in base64."""
    made = [
        fits.Column(name=name, array=np.asarray(values), format="K" if name == "UNIQ" else "D")
        for name, values in columns.items()
    ]
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(header)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    return base64.b64encode(gzip.compress(buffer.getvalue())).decode()


ORDER = 5
CELLS = np.arange(cells_of_sky(ORDER))
CAPS = ((90, 30, 10), (0, 0, 12), (10, 89, 20), (200, -89.9, 100), (45, -45, 140))
"""Right ascension, declination and radius: at the border of RA, around poles, beyond a hemisphere."""
SQUARE = [[359, -1], [1, -1], [1, 1], [359, 1]]


def stored(settings: Settings, mongo: MongoClient[dict[str, Any]], name: str) -> dict[str, Any]:
    found = data_database(mongo, settings)["skymaps"].find_one({"localization_name": name})
    assert found is not None
    return found


async def test_every_form(archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any) -> None:
    uniq = ((4 << (2 * ORDER)) + CELLS[:100]).tolist()
    flat = packed({"PROB": np.where(CELLS < 100, 1.0, 0.0)}, ORDERING="NESTED", PIXTYPE="HEALPIX")
    hundred = 100 / CELLS.size * 41252.96
    for skymap, name, area in (
        ({"localization_name": "cells", "uniq": uniq, "probdensity": [2.0] * 100}, "cells", hundred),
        ({"localization_name": "file", "content": flat}, "file", hundred),
        ({"localization_name": "uri", "content": f"data:application/fits;base64,{flat}"}, "uri", hundred),
        ({"ra": "10", "dec": -20, "error": 1}, "10.00000_-20.00000_1.00000", 14.46),
        ({"localization_name": "polygon", "polygon": SQUARE}, "polygon", 4.0),
        ({"localization_name": "text", "polygon": str(SQUARE)}, "text", 4.0),
        ({"localization_name": "centred", "polygon": {"center": [180, 0], "corners": SQUARE}}, "centred", 41248.96),
        ({"localization_name": "ellipse", "ra": 1, "dec": 2, "amaj": 3, "amin": 1, "phi": 30}, "ellipse", 9.42),
    ):
        status, answer = await put(user, skymap, "90")
        assert (status, answer["data"]["localization_name"]) == (200, name), answer
        region = Moc.from_document(stored(archive, mongo, name)["moc"]["90"])
        assert region.area == pytest.approx(area, rel=0.01), name


async def test_what_put_refuses(user: Any, archive: Settings) -> None:
    cone = {"ra": 1, "dec": 2, "error": 3}
    archive.skymaps.max_cells, archive.skymaps.max_bytes = 5000, 200_000
    bomb = base64.b64encode(gzip.compress(bytes(10 << 20))).decode()
    entities = '<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    for body, reason in (
        ({"skymap": cone, "dateobs": None}, "dateobs is missing"),
        ({}, "give a skymap or a voevent"),
        ({"skymap": {}}, "give uniq and probdensity"),
        ({"skymap": {"ra": 1, "dec": 2}}, "give uniq and probdensity"),
        ({"skymap": {"ra": 400, "dec": 2, "error": 1}}, "skymap.ra"),
        ({"skymap": {"ra": 4, "dec": 2, "error": 0}}, "skymap.error"),
        ({"skymap": {"polygon": SQUARE}}, "localization_name is missing"),
        ({"skymap": {"localization_name": "x", "polygon": SQUARE[:2]}}, "polygon"),
        ({"skymap": {"localization_name": "x", "polygon": "[1, 2"}}, "polygon"),
        ({"skymap": {"localization_name": "x", "ra": 1, "dec": 2, "amaj": 1, "amin": 2, "phi": 0}}, "amin must not"),
        ({"skymap": {"localization_name": "x", "uniq": [4, 16], "probdensity": [1, 1]}}, "cells overlap"),
        ({"skymap": {"localization_name": "x", "uniq": [4], "probdensity": [1, 1]}}, "as many cells"),
        (
            {"skymap": {"localization_name": "x", "uniq": list(range(10**4, 10**4 + 6000)), "probdensity": []}},
            "more than 5000 cells",
        ),
        ({"skymap": {"localization_name": "x", "content": "!"}}, "base64"),
        ({"skymap": {"localization_name": "x", "content": "AAAA"}}, "no FITS file"),
        ({"skymap": {"localization_name": "x", "content": bomb}}, "larger than 200000 bytes"),
        (
            {"skymap": {"localization_name": "x", "content": packed({"PROB": np.ones(12288)}, ORDERING="NESTED")}},
            "more than 5000 cells",
        ),
        ({"skymap": {"url": "http://127.0.0.1:1/map.fits"}}, "may not fetch"),
        ({"skymap": {"url": "/etc/passwd"}}, "may not fetch"),
        ({"voevent": entities}, "document types and entities are not accepted"),
        ({"voevent": "<a/>"}, "not a VOEvent"),
        ({"skymap": cone, "contours": []}, "contours"),
        ({"skymap": cone, "contours": [101]}, "contours"),
        ({"skymap": cone, "contours": list(range(1, 40))}, "contours"),
    ):
        status, answer = await user("PUT", "/api/skymap", {**AT, **body})
        assert (status, answer["status"]) == (400, "error"), (body, answer)
        assert reason in answer["message"], (answer, str(body)[:100])
        assert "Traceback" not in answer["message"]


async def test_the_same_level_at_once_and_different_ones(user: Any) -> None:
    cone = {"ra": 10, "dec": 20, "error": 1}
    levels = [(50,), (50,), (90,), (95,)]
    answers = await asyncio.gather(*(put(user, cone, some) for some in levels))
    assert {status for status, _ in answers} <= {200, 409}
    status, answer = await put(user, cone, (50, 90, 95))
    assert (status, answer["data"]["contours"]) == (409, [50, 90, 95])


class Files:
    """A server of maps."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.startswith("/maps/away"):
            raise web.HTTPFound("/secret/map.fits")
        if request.path.startswith("/maps/moved"):
            raise web.HTTPFound("/maps/map.fits")
        if request.path.startswith("/maps/slow"):
            await asyncio.sleep(30)
        if request.path not in self.files:
            raise web.HTTPNotFound
        return web.Response(body=self.files[request.path])


@pytest.fixture
async def files(archive: Settings) -> AsyncIterator[tuple[Files, str]]:
    content = Files()
    app = web.Application()
    app.router.add_get("/{path:.*}", content.get)
    async with TestServer(app) as server:
        flat = base64.b64decode(packed({"PROB": np.where(CELLS < 100, 1.0, 0.0)}, ORDERING="NESTED"))
        content.files = {"/maps/map.fits": flat, "/secret/map.fits": flat, "/maps/text": b"something else"}
        root = str(server.make_url("/"))
        archive.skymaps.allowed_urls, archive.skymaps.timeout_seconds = [f"{root}maps/"], 3.0
        yield content, root


async def test_maps_are_fetched_from_allowed_places_only(files: tuple[Files, str], user: Any) -> None:
    server, root = files
    for url, reason in (
        (f"{root}secret/map.fits", "may not fetch"),
        (f"{root}maps/../secret/map.fits", "may not fetch"),
        (f"{root}maps/%2e%2e/secret/map.fits", "may not fetch"),
        (f"{root.replace('http://', 'http://user@')}maps/map.fits", "may not fetch"),
        (f"{root.replace('http', 'https')}maps/map.fits", "may not fetch"),
        ("http://localhost/maps/map.fits", "may not fetch"),
        ("file:///etc/passwd", "may not fetch"),
    ):
        status, answer = await put(user, {"url": url})
        assert (status, reason in answer["message"]) == (400, True), (url, answer)
    assert server.asked == []
    for path, reason in (
        ("maps/away", "may not fetch"),
        ("maps/none", "there is no"),
        ("maps/slow", "longer than 3 s"),
        ("maps/text", "no FITS file"),
    ):
        status, answer = await put(user, {"url": f"{root}{path}"})
        assert (status, reason in answer["message"]) == (400, True), (path, answer)
    assert "/secret/map.fits" not in server.asked
    status, answer = await put(user, {"url": f"{root}maps/map.fits"})
    assert (status, answer["data"]["localization_name"]) == (200, "map.fits")
    status, answer = await put(user, {"url": f"{root}maps/moved", "localization_name": "named"})
    assert (status, answer["data"]["localization_name"]) == (200, "named")


NOTICE = (
    '<?xml version="1.0" encoding="UTF-8"?><voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" '
    'ivorn="ivo://a.b/c#d" role="test"><What><Param name="TrigID" value="77"/><Param name="skymap_fits" value="{url}"/>'
    "</What><WhereWhen><ObsDataLocation><ObservationLocation><AstroCoords><Time><TimeInstant><ISOTime>"
    "2020-01-02T03:04:05.678901</ISOTime></TimeInstant></Time>{place}</AstroCoords></ObservationLocation>"
    "</ObsDataLocation></WhereWhen></voe:VOEvent>"
)
PLACE = "<Position2D><Value2><C1>10</C1><C2>-5</C2></Value2><Error2Radius>2</Error2Radius></Position2D>"


async def test_notices(files: tuple[Files, str], user: Any) -> None:
    root = files[1]
    cone = "10.00000_-5.00000_2.00000"
    for url, place, name in (
        (f"{root}maps/map.fits", PLACE, "map.fits"),
        (f"{root}maps/none", PLACE, cone),
        ("https://example.org/map.fits", PLACE, cone),
        (f"{root}maps/none", "", "there is no"),
        ("https://example.org/map.fits", "", "its map is at https://example.org/map.fits, which this instance may not"),
    ):
        status, answer = await user("PUT", "/api/skymap", {"voevent": NOTICE.format(url=url, place=place)})
        if " " in name:
            assert (status, name in answer["message"]) == (400, True), answer
        else:
            assert answer["data"]["localization_name"] == name, answer
            assert answer["data"]["dateobs"] == "2020-01-02T03:04:05.678000"
    status, answer = await user("GET", "/api/skymap", params={"triggerid": 77, "localization_name": cone})
    assert (status, answer["data"]["triggerid"]) == (200, 77)


@pytest.fixture
def stars(archive: Settings, mongo: MongoClient[dict[str, Any]]) -> tuple[Any, Any]:
    """A catalog all over the sky, its rows with their numbers as brightness."""
    random = np.random.default_rng(5)
    ra, dec = random.uniform(0, 360, STARS), np.degrees(np.arcsin(random.uniform(-1, 1, STARS)))
    ra[:4], dec[:4] = (0.0, 360.0, 123.0, 7.0), (0.0, 0.0, 90.0, -90.0)
    pairs = zip((ra - 180.0).tolist(), dec.tolist(), strict=True)
    places = [{"radec_geojson": {"type": "Point", "coordinates": pair}} for pair in pairs]
    catalog = data_database(mongo, archive)["stars"]
    catalog.insert_many([{"_id": n, "mag": n, "coordinates": place} for n, place in enumerate(places)])
    catalog.insert_many([{"_id": "nowhere"}, {"_id": "odd", "coordinates": {"radec_geojson": None}}])
    catalog.create_index([("coordinates.radec_geojson", "2dsphere")])
    return ra, dec


async def found(user: Any, name: str, level: float = 90, filter: Any = None, **kwargs: Any) -> list[Any]:
    where = {"localization_name": name, **AT, "contour": level}
    query = {"skymap": where, "catalog": "stars", "filter": filter or {}, "projection": {"mag": 1}}
    status, answer = await user.query("skymap", query, **kwargs)
    assert status == 200, answer
    return [row["_id"] for row in answer["data"]]


def annulus(ra: float, dec: float) -> tuple[list[int], Any]:
    """Cells between 10 and 30 degrees from a position, with all other cells."""
    lon, lat = nested.healpix_to_lonlat(CELLS, ORDER)
    distance = separation(ra, dec, lon.deg, lat.deg) / 3600.0
    inside = (distance > 10) & (distance < 30)
    return ((4 << (2 * ORDER)) + CELLS[inside]).tolist(), CELLS[inside]


async def test_queries_find_what_is_in_the_region_with_holes_poles_and_hemispheres(user: Any, stars: Any) -> None:
    ra, dec = stars
    for number, (a, d, radius) in enumerate(CAPS):
        lon, lat = nested.healpix_to_lonlat(CELLS, ORDER)
        chosen = CELLS[separation(a, d, lon.deg, lat.deg) / 3600.0 <= radius]
        uniq = ((4 << (2 * ORDER)) + chosen).tolist()
        name = f"cap{number}"
        assert (await put(user, {"localization_name": name, "uniq": uniq, "probdensity": [1.0] * len(uniq)}))[0] == 200
        expected = np.flatnonzero(Moc.of_cells(ORDER, chosen).contains(ra, dec)).tolist()
        assert sorted(await found(user, name)) == expected
        # Far enough from the edge the answer is that of geometry, whatever cells do.
        distance = separation(a, d, ra, dec) / 3600.0
        assert set(np.flatnonzero(distance < radius - 2)) <= set(expected)
        assert not set(np.flatnonzero(distance > radius + 2)) & set(expected)
    uniq, chosen = annulus(10, 80)
    assert (await put(user, {"localization_name": "ring", "uniq": uniq, "probdensity": [1.0] * len(uniq)}))[0] == 200
    expected = np.flatnonzero(Moc.of_cells(ORDER, chosen).contains(ra, dec)).tolist()
    assert sorted(await found(user, "ring")) == expected
    assert not set(np.flatnonzero(separation(10, 80, ra, dec) / 3600.0 < 8)) & set(expected)


async def test_filter_projection_and_options_are_those_of_find(user: Any, stars: Any) -> None:
    await put(user, {"ra": 200, "dec": 10, "error": 30}, (50, 90, 99.5))
    name = "200.00000_10.00000_30.00000"
    everything = sorted(await found(user, name))
    assert len(everything) > 500
    assert set(await found(user, name, 50)) < set(everything) < set(await found(user, name, 99.5))
    bright = [n for n in everything if n < 1000]
    assert sorted(await found(user, name, filter={"mag": {"$lt": 1000}})) == bright
    descending = await found(user, name, sort=[["mag", -1]])
    assert descending == everything[::-1]
    assert await found(user, name, sort=[["mag", -1]], skip=5, limit=7) == everything[::-1][5:12]
    assert await found(user, name, sort=[["$natural", 1]], limit=3) == everything[:3]
    assert len(await found(user, name, limit=400, hint="coordinates.radec_geojson_2dsphere")) == 400
    where = {"localization_name": name, "trigger_id": "42"}
    projection = {"_id": 0, "twice": {"$multiply": [2, "$mag"]}}
    query = {"skymap": where, "catalog": "stars", "filter": {"mag": everything[0]}, "projection": projection}
    assert (await user.query("skymap", query))[1]["data"] == [{"twice": 2 * everything[0]}]


async def test_what_a_query_refuses(user: Any) -> None:
    await put(user, {"ra": 90, "dec": 30, "error": 10})
    query = {"catalog": "ZTF_alerts", "filter": {}}
    named = {"localization_name": CONE}
    for where, reason in (
        ({**named, **AT, "contour": 20}, "ValueError: Contour level 20 not found in skymap"),
        ({**named, **AT, "contour": 90.5}, "ValueError: Contour level 90.5 not found in skymap"),
        ({**named, "aliases": ["nobody"]}, "ValueError: Skymap not found"),
        ({"localization_name": "x", **AT}, "ValueError: Skymap not found"),
        (AT, "name must be specified"),
        (named, "at least one of dateobs, trigger_id, aliases"),
    ):
        status, answer = await user.query("skymap", {**query, "skymap": where})
        assert (status, answer["status"]) == (400, "error")
        assert answer["message"] == reason if reason.startswith("ValueError") else reason in answer["message"]
    where = {**named, **AT, "contour": 90.0}
    for refused in ({"catalog": "users", "filter": {}}, {"catalog": "ZTF_alerts", "filter": {"$where": "1"}}):
        assert (await user.query("skymap", {**refused, "skymap": where}))[0] == 400
    assert (await user.query("skymap", {**query, "skymap": where}))[1]["data"] == []


async def test_alerts_of_other_programs_are_not_found(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any, admin: Any
) -> None:
    await put(user, {"ra": 155, "dec": 20, "error": 10})
    data_database(mongo, archive)["ZTF_alerts"].update_many(
        {"candid": {"$mod": [2, 0]}}, {"$set": {"candidate.programid": 2}}
    )
    query = {
        "skymap": {"localization_name": "155.00000_20.00000_10.00000", **AT},
        "catalog": "ZTF_alerts",
        "filter": {},
    }
    seen, whole = [[row["candid"] for row in (await who.query("skymap", query))[1]["data"]] for who in (user, admin)]
    assert len(whole) == 10
    assert seen == [candid for candid in whole if candid % 2]


@pytest.mark.sample_data
async def test_a_real_map_of_50_million_pixels_does_not_stop_the_api(user: Any, sample_data: Path) -> None:
    content = base64.b64encode((sample_data / "skymaps" / "GRB220617A_IPN_map_hpx.fits.gz").read_bytes()).decode()
    started = asyncio.create_task(put(user, {"localization_name": "IPN", "content": content}, (50, 90, 95)))
    pings = 0
    while not started.done():
        assert (await user("GET", "/"))[0] == 200
        pings += 1
    status, answer = await started
    assert (status, answer["data"]["contours"]) == (200, [50, 90, 95]), answer
    assert pings > 5
