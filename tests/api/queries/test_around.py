"""cone_search and near around many positions: the same as one by one, in a handful of commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from pymongo import MongoClient, monitoring

from kowalski.api import cells
from kowalski.api.queries import together
from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.ingesters.cells import add_cells
from kowalski.science.coordinates import Floats

SOURCES = 600


class Commands(monitoring.CommandListener):
    """Names of the commands that are sent while it listens."""

    def __init__(self) -> None:
        self.names: list[str] | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.names is not None and event.command.get("$db", "").startswith("test_"):
            self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


COMMANDS = Commands()
monitoring.register(COMMANDS)  # for the clients that are made from now on


@pytest.fixture
def commands() -> Iterator[list[str]]:
    """The commands that are sent to test databases."""
    COMMANDS.names = []
    yield COMMANDS.names
    COMMANDS.names = None


def sky(n: int) -> tuple[Floats, Floats]:
    """Positions all over the sky, many of them at the poles and where right ascension starts again."""
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[: n // 6] = 90.0 - rng.exponential(0.01, n // 6)
    dec[n // 6 : n // 3] = -90.0
    ra[n // 3 : n // 2] = rng.choice([0.0, 1e-5, 359.99999, 360.0], n // 2 - n // 3)
    return ra, dec


@pytest.fixture
def archive(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Settings:
    """Catalogs of the same sources, pairs some arcsec apart: one with cells, one without, one with some."""
    data = data_database(mongo, settings)
    ra, dec = sky(SOURCES)
    rng = np.random.default_rng(8)
    angle, apart = rng.uniform(0, 360, SOURCES) * u.deg, rng.uniform(0.01, 3, SOURCES) * u.arcsec
    twins = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle, apart)
    places = zip([*ra, *twins.ra.deg], [*dec, *twins.dec.deg], strict=True)
    documents = [
        {"_id": n, "mag": n % 7, "rows": [n, 1, 2], "coordinates": {"radec_geojson": _point(float(a), float(d))}}
        for n, (a, d) in enumerate(places)
    ]
    for name in ("cells", "also", "geometry", "some"):
        data[name].insert_many(documents)
        data[name].create_index([("coordinates.radec_geojson", "2dsphere")])
    add_cells(data["cells"], [16, 14])
    add_cells(data["also"], [14])
    add_cells(data["some"], [14])
    data["some"].update_many({"_id": {"$lt": 5}}, {"$unset": {"coordinates.hpx_14": 1}})
    return settings


def _point(ra: float, dec: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [ra % 360.0 - 180.0, dec]}


def query(kind: str, positions: Any, part: Any, radius: float, names: Any) -> dict[str, Any]:
    catalogs = dict.fromkeys(names, part)
    if kind == "near":
        return {"radec": positions, "catalogs": catalogs, "max_distance": radius, "distance_units": "arcsec"}
    cone = {"radec": positions, "cone_search_radius": radius, "cone_search_unit": "arcsec"}
    return {"object_coordinates": cone, "catalogs": catalogs}


async def ask(user: Any, kind: str, asked: dict[str, Any], **kwargs: Any) -> Any:
    status, answer = await user.query(kind, asked, **kwargs)
    assert status == 200, answer
    return answer["data"]


async def test_many_positions_give_what_each_alone_gives(user: Any) -> None:
    ra, dec = sky(SOURCES)
    chosen = range(0, SOURCES, 13)
    positions = {f"object {n}": [float(ra[n]), float(dec[n])] for n in chosen} | {"empty": [123.456, 1.0]}
    no_cells = {"coordinates.hpx_14": 0, "coordinates.hpx_16": 0}
    for kind, radius, part, kwargs in (
        ("cone_search", 2.0, {"projection": no_cells}, {}),
        (
            "cone_search",
            5.0,
            {"filter": {"mag": {"$lt": 4}}, "projection": {"mag": 1}},
            {"sort": [["mag", -1], ["_id", 1]]},
        ),
        ("near", 2.5, {"projection": {"_id": 1, "n": {"$size": "$rows"}}}, {"skip": 1, "limit": 1}),
        ("near", 400.0, {"projection": {"rows": {"$slice": 1}, "coordinates": 0}}, {"limit": 2}),
        ("near", 5.0, {"projection": ["mag"]}, {"sort": {"_id": -1}, "limit": 1}),
    ):
        together_found = await ask(
            user, kind, query(kind, positions, part, radius, ["cells", "geometry", "some"]), **kwargs
        )
        for name, place in positions.items():
            alone = (await ask(user, kind, query(kind, {name: place}, part, radius, ["geometry"]), **kwargs))[
                "geometry"
            ]
            unordered = kind == "cone_search" and "sort" not in kwargs
            expected = _sorted(alone[name]) if unordered else alone[name]
            for catalog, found in together_found.items():
                there = _sorted(found[name]) if unordered else found[name]
                assert there == expected, (kind, radius, catalog, name)
        assert together_found["cells"]["empty"] == []
        assert list(together_found["cells"]) == list(positions)


def _sorted(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(documents, key=lambda document: document["_id"])


async def test_a_smallest_distance_is_kept(user: Any) -> None:
    ra, dec = sky(SOURCES)
    positions = [[float(ra[n]), float(dec[n])] for n in range(SOURCES // 2, SOURCES // 2 + 5)]
    asked = query("near", positions, {"projection": {"_id": 1}}, 4.0, ["cells", "geometry"])
    for found in (await ask(user, "near", {**asked, "min_distance": 1e-3})).values():
        assert [[document["_id"] for document in documents] for documents in found.values()] == [
            [SOURCES + n] for n in range(SOURCES // 2, SOURCES // 2 + 5)
        ]


async def test_thousands_of_positions_are_a_handful_of_commands(user: Any, commands: list[str]) -> None:
    """5000 objects in two catalogs: per catalog its indexes, whether each source has its cell, and one search."""
    ra, dec = sky(SOURCES)
    positions = {f"{n}": [float(ra[n % SOURCES]), float(dec[n % SOURCES])] for n in range(5000)}
    asked = query("cone_search", positions, {"projection": {"_id": 1}}, 2.0, ["cells", "also"])
    commands.clear()
    found = await ask(user, "cone_search", asked)
    assert [len(each) for each in found.values()] == [5000, 5000]
    assert all(documents for each in found.values() for documents in each.values())
    assert commands.count("aggregate") == 2
    assert len(commands) <= 10, commands
    geometry = query("near", dict(list(positions.items())[:100]), {"projection": {"_id": 1}}, 2.0, ["geometry"])
    commands.clear()
    found = await ask(user, "near", geometry)
    assert all(found["geometry"].values())
    assert len(commands) <= 4, commands


async def test_what_is_too_large_to_hold_is_searched_in_halves(
    user: Any, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ra, dec = sky(SOURCES)
    positions = {f"{n}": [float(ra[n]), float(dec[n])] for n in range(SOURCES // 2, SOURCES // 2 + 40)}
    asked = query("near", positions, {}, 3.0, ["cells"])
    whole = await ask(user, "near", asked)
    monkeypatch.setattr(together, "HELD", 4000)
    commands.clear()
    assert await ask(user, "near", asked) == whole
    assert commands.count("aggregate") > 4
    monkeypatch.setattr(together, "HELD", 10)
    assert await ask(user, "near", asked) == whole


async def test_what_many_at_once_cannot_do_is_done_one_by_one(user: Any) -> None:
    ra, dec = sky(SOURCES)
    positions = [[float(ra[n]), float(dec[n])] for n in (350, 400)]
    matched = {"filter": {"rows": 1}, "projection": {"rows.$": 1}}
    for found in (await ask(user, "cone_search", query("cone_search", positions, matched, 3.0, ["cells"]))).values():
        assert all(documents[0]["rows"] == [1] for documents in found.values())
    for kwargs in ({"hint": "coordinates.radec_geojson_2dsphere"}, {"sort": [["$natural", 1]]}):
        found = await ask(user, "cone_search", query("cone_search", positions, {}, 3.0, ["cells"]), **kwargs)
        assert all(found["cells"].values())
    wide = await ask(user, "near", query("near", positions, {"projection": {"_id": 1}}, 7000.0, ["cells"]), limit=1)
    assert [documents[0]["_id"] for documents in wide["cells"].values()] == [350, 400]


async def test_clients_that_ask_at_the_same_time_are_answered_together_as_each_alone(
    user: Any, commands: list[str]
) -> None:
    ra, dec = sky(SOURCES)
    positions = [[float(ra[n]), float(dec[n])] for n in range(0, SOURCES, 13)] + [[123.456, 1.0]] * 2
    nearest_anywhere = {"coordinates.radec_geojson": {"$near": {"$geometry": _point(180.0, 0.0)}}}
    for kind, names, radius, part, kwargs in (
        ("cone_search", ["cells", "geometry"], 5.0, {"projection": {"mag": 1}}, {}),
        (
            "cone_search",
            ["some"],
            3.0,
            {"filter": {"mag": {"$lt": 4}}},
            {"sort": [["mag", -1], ["_id", 1]], "limit": 2},
        ),
        ("near", ["cells"], 2.5, {"projection": {"_id": 1}}, {"skip": 1}),
        # MongoDB takes such a condition alone only
        ("cone_search", ["cells"], 2.5, {"filter": nearest_anywhere}, {}),
    ):
        asked = [query(kind, [place], part, radius, names) for place in positions]
        alone = [await ask(user, kind, each, **kwargs) for each in asked]
        commands.clear()
        found = await asyncio.gather(*(ask(user, kind, each, **kwargs) for each in asked))
        ordered = kind == "near" or "sort" in kwargs
        assert [_comparable(each, ordered=ordered) for each in found] == [
            _comparable(each, ordered=ordered) for each in alone
        ]
        if "$near" not in str(part):
            assert commands.count("find") + commands.count("aggregate") < len(positions) * len(names) / 2


def _comparable(answer: dict[str, Any], *, ordered: bool) -> Any:
    return answer if ordered else {name: list(map(_sorted, found.values())) for name, found in answer.items()}


async def test_each_of_many_clients_has_its_own_time_however_long_they_keep_coming(user: Any) -> None:
    ra, dec = sky(SOURCES)
    asked = [query("near", [[float(ra[n]), float(dec[n])]], {}, 3.0, ["cells"]) for n in range(30)]
    alone = [await ask(user, "near", each) for each in asked]

    async def keep_asking(which: int) -> None:
        await asyncio.sleep(0.005 * (which % 3))  # so that there is always somebody who waits
        end = time.monotonic() + 7.0
        while time.monotonic() < end:
            assert await ask(user, "near", asked[which], max_time_ms=5000) == alone[which]

    await asyncio.gather(*map(keep_asking, range(30)))


async def test_what_is_too_much_for_clients_together_goes_to_each_alone(
    user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ra, dec = sky(SOURCES)
    asked = [query("near", [[float(ra[n]), float(dec[n])]], {}, 3.0, ["cells"]) for n in range(30)]
    alone = [await ask(user, "near", each) for each in asked]
    monkeypatch.setattr(together, "HELD", 10)
    assert await asyncio.gather(*(ask(user, "near", each) for each in asked)) == alone


@pytest.mark.parametrize(
    ("radius", "orders", "order"),
    [
        (2.0, [8, 14, 16], 16),
        (2.1, [8, 14, 16], 14),
        (8.0, [8, 16], None),
        (300.0, [8, 16], 8),
        (600.0, [8, 16], None),
        (1e-3, [16], 16),
        (1e-3, [8], None),
        (2.0, [], None),
    ],
)
def test_the_order_is_chosen_by_radius(radius: float, orders: list[int], order: int | None) -> None:
    assert cells.fitting_order(radius, orders) == order
