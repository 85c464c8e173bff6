"""Cross-matches on a real MongoDB: by HEALPix cells, by geometry and by brute force, the same sources are found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymongo import MongoClient
from pymongo.database import Database

from kowalski.archive import catalogs as catalogs_module
from kowalski.archive import client, indexes
from kowalski.archive.catalogs import Catalogs
from kowalski.config import Settings
from kowalski.config.settings import CrossMatch
from kowalski.ingesters.cells import add_cells

Document = dict[str, Any]
Floats = NDArray[np.float64]

ORDERS = (16, 14, 8)
SPHERE = [("coordinates.radec_geojson", "2dsphere")]
RADII = [  # radius, unit, the same in arcsec, the HEALPix order that serves it
    (2.0, "arcsec", 2.0, 16),
    (8.0, "arcsec", 8.0, 14),
    (300.0, "arcsec", 300.0, 8),
    (5.0, "arcmin", 300.0, 8),
    (0.1, "deg", 360.0, 8),
    (1e-5, "rad", 2.0626480624709636, 14),
    (0.5, "deg", 1800.0, None),
]


@pytest.fixture
def data(mongo: MongoClient[Document], settings: Settings) -> Database[Document]:
    return client.data_database(mongo, settings)


def source(number: int, ra: float, dec: float, **fields: Any) -> Document:
    place = {"radec_str": ["a", "b"], "radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]}}
    return {"_id": number, "ra": ra, "dec": dec, "mag": 10.0 + number % 5, "coordinates": place, **fields}


def matched(data: Database[Document], name: str, ra: Any, dec: Any, **declared: Any) -> list[list[Document]]:
    """Match with one catalog; without a radius, 2 arcsec."""
    catalogs = Catalogs(data, {name: CrossMatch(**{"cone_search_radius": 2.0, **declared})})
    found = catalogs.match(np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float)))
    assert catalogs.missing == {}
    return found[name]


def offset(ra: Floats, dec: Floats, angle: Floats, arcsec: Floats) -> tuple[Floats, Floats]:
    """Go ``arcsec`` from positions in direction ``angle`` (radians, east of north): the haversine formulas."""
    d, c = np.radians(dec), np.radians(arcsec / 3600.0)
    there = np.arcsin(np.clip(np.sin(d) * np.cos(c) + np.cos(d) * np.sin(c) * np.cos(angle), -1.0, 1.0))
    turn = np.arctan2(np.sin(angle) * np.sin(c) * np.cos(d), np.cos(c) - np.sin(d) * np.sin(there))
    return (ra + np.degrees(turn)) % 360.0, np.degrees(there)


def distances(ra: Floats, dec: Floats, sources: list[Document]) -> Floats:
    """Separations by chords, in arcsec, shape (positions, sources)."""

    def vectors(a: Floats, d: Floats) -> Floats:
        a, d = np.radians(a), np.radians(d)
        return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)

    there = vectors(np.array([one["ra"] for one in sources]), np.array([one["dec"] for one in sources]))
    chords = np.linalg.norm(vectors(ra, dec)[:, None, :] - there[None, :, :], axis=-1)
    return np.degrees(2.0 * np.arcsin(chords / 2.0)) * 3600.0


def anywhere(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    return random.uniform(0.0, 360.0, n), np.degrees(np.arcsin(random.uniform(-1.0, 1.0, n)))


def at_the_poles(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    dec = 90.0 - np.abs(random.normal(0.0, 1.0, n)) * random.choice([0.0, 1e-4, 1e-2, 0.1], n)
    return random.uniform(0.0, 360.0, n), dec * random.choice([-1.0, 1.0], n)


def at_ra_zero(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    ra = random.normal(0.0, 1.0, n) * random.choice([0.0, 1e-4, 1e-3, 0.1], n)
    return np.where(ra < 0.0, ra + 360.0, ra), random.uniform(-60.0, 60.0, n)


def at_corners_of_the_grid(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Where base cells of HEALPix meet, some of them with only eight neighbours."""
    ra = (random.choice([0.0, 45.0, 90.0, 180.0, 270.0], n) + random.normal(0.0, 1e-3, n)) % 360.0
    dec = np.degrees(np.arcsin(2.0 / 3.0)) * random.choice([-1.0, 0.0, 1.0], n) + random.normal(0.0, 1e-3, n)
    return ra, dec


@pytest.mark.parametrize("place", [anywhere, at_the_poles, at_ra_zero, at_corners_of_the_grid])
def test_cells_geometry_and_brute_force_agree(data: Database[Document], place: Callable[..., Any]) -> None:
    random = np.random.default_rng(11)
    ra, dec = place(random, 40)
    edges = np.array([arcsec for _, _, arcsec, _ in RADII])
    around = np.repeat(np.arange(ra.size), 30)
    apart = random.choice(edges, around.size) * random.choice([0.01, 0.5, 0.99999, 1.00001, 1.5], around.size)
    sources_ra, sources_dec = offset(ra[around], dec[around], random.uniform(0.0, 2.0 * np.pi, around.size), apart)
    sources = [
        source(number, a, d)
        for number, (a, d) in enumerate(zip(sources_ra.tolist(), sources_dec.tolist(), strict=True))
    ]
    for name in ("plain", "cells", "both"):
        data[name].insert_many(sources)
    data["plain"].create_index(SPHERE)
    data["both"].create_index(SPHERE)
    for name in ("cells", "both"):
        add_cells(data[name], ORDERS)
    apart = distances(ra, dec, sources)
    for radius, unit, arcsec, order in RADII:
        expected = [np.flatnonzero(row <= arcsec).tolist() for row in apart]
        assert 0 < sum(map(len, expected)) < apart.size
        for name in ("plain", "cells", "both") if order is not None else ("plain", "both"):
            found = matched(data, name, ra, dec, cone_search_radius=radius, cone_search_unit=unit)
            ids = [[one["_id"] for one in documents] for documents in found]
            assert [sorted(each) for each in ids] == expected, (name, radius, unit)
            nearest_first = [np.diff(row[each]) > -1e-7 for row, each in zip(apart, ids, strict=True)]
            assert np.concatenate(nearest_first).all()


def test_the_finest_order_that_serves_the_radius_is_used(data: Database[Document]) -> None:
    data["c"].insert_one(source(1, 10.0, 10.0))
    add_cells(data["c"], ORDERS)
    for radius, unit, arcsec, order in RADII[:-1]:
        catalogs = Catalogs(data, {"c": CrossMatch(cone_search_radius=radius, cone_search_unit=unit)})  # type: ignore[arg-type]
        catalogs.match(np.array([10.0]), np.array([10.0]))
        assert catalogs._present["c"].order == order
        assert catalogs._present["c"].radius == pytest.approx(arcsec, rel=1e-12)


@pytest.fixture(params=["geometry", "cells"])
def catalog(request: pytest.FixtureRequest, data: Database[Document]) -> str:
    """Five sources of magnitudes 11 to 15, 0.1, 0.2 … arcsec north of (200, -30), searched in both ways."""
    data["c"].insert_many([source(i, 200.0, -30.0 + i * 0.1 / 3600.0, z=0.1 * i) for i in range(1, 6)])
    if request.param == "cells":
        add_cells(data["c"], ORDERS)
    else:
        data["c"].create_index(SPHERE)
    return "c"


CONDITIONS: list[tuple[Document, list[int]]] = [
    ({}, [1, 2, 3, 4, 5]),
    ({"mag": {"$gt": 12.5}}, [3, 4]),
    ({"$or": [{"_id": 2}, {"_id": 4}]}, [2, 4]),
    ({"$and": [{"_id": {"$gt": 1}}, {"_id": {"$lt": 3}}]}, [2]),
    ({"coordinates.radec_geojson": {"$exists": False}}, []),
    ({"$expr": {"$eq": ["$_id", 5]}}, [5]),
]


def test_filters_narrow_the_cone(data: Database[Document], catalog: str) -> None:
    """Whatever operators a filter uses, the cone stays; a source that is far away never shows up."""
    data[catalog].insert_one(source(6, 100.0, 30.0))
    for condition, expected in CONDITIONS:
        found = matched(data, catalog, [200.0, 20.0], [-30.0, -30.0], filter=condition)
        assert [[one["_id"] for one in documents] for documents in found] == [expected, []], condition


PROJECTIONS: list[tuple[Document, Document]] = [
    ({"_id": 1, "mag": 1}, {"_id": 1, "mag": 11.0}),
    ({"_id": 1}, {"_id": 1}),
    ({"mag": 1}, {"_id": 1, "mag": 11.0}),
    ({"_id": 0, "mag": True}, {"mag": 11.0}),
    ({"_id": 1, "mag": 0, "coordinates": 0}, {"_id": 1, "ra": 200.0, "dec": -30.0 + 0.1 / 3600.0, "z": 0.1}),
    ({"dec": 0, "ra": False, "coordinates": 0}, {"_id": 1, "mag": 11.0, "z": 0.1}),
    ({"_id": 0, "dec": 0, "ra": 0, "coordinates": {"radec_str": 0, "radec_geojson": 0}}, {"mag": 11.0, "z": 0.1}),
    ({"name": {"$concat": ["s", {"$toString": "$_id"}]}}, {"_id": 1, "name": "s1"}),
    ({"_id": "$mag", "nothing": {"$literal": 0}}, {"_id": 11.0, "nothing": 0}),
    ({"coordinates.radec_str": 1}, {"_id": 1, "coordinates": {"radec_str": ["a", "b"]}}),
    ({"coordinates": {"radec_str": 1}}, {"_id": 1, "coordinates": {"radec_str": ["a", "b"]}}),
]


def test_projections_give_what_they_name_and_nothing_else(data: Database[Document], catalog: str) -> None:
    for projection, expected in PROJECTIONS:
        ((found,),) = matched(data, catalog, 200.0, -30.0, projection=projection, filter={"_id": 1})
        place = found.pop("coordinates", {})  # an exclusion may leave it behind, emptied of all that was there
        assert {**found, "coordinates": place} == {"coordinates": {}, **expected}, projection


def test_cells_do_not_show_in_matches(data: Database[Document], catalog: str) -> None:
    for projection in (
        {},
        {"mag": 0},
        {"coordinates": 1, "ra": 1},
        {"_id": 0},
        {"_id": 1, "coordinates": "$coordinates"},
    ):
        (found,) = matched(data, catalog, 200.0, -30.0, projection=projection)
        assert len(found) == 5
        assert all(set(one["coordinates"]) == {"radec_str", "radec_geojson"} for one in found), projection
        assert all(not name.startswith("_") or name == "_id" for one in found for name in one), projection


def test_cells_that_a_projection_names_are_shown(data: Database[Document]) -> None:
    data["c"].insert_one(source(1, 200.0, -30.0))
    add_cells(data["c"], (16,))
    ((found,),) = matched(data, "c", 200.0, -30.0, projection={"coordinates.hpx_16": 1})
    assert set(found["coordinates"]) == {"hpx_16"}


def test_no_position_needs_no_query(data: Database[Document], catalog: str) -> None:
    assert matched(data, catalog, [], []) == []


def test_absent_and_unusable_catalogs_are_named_with_the_reason(data: Database[Document]) -> None:
    data["bare"].insert_one(source(1, 200.0, -30.0))
    data["good"].insert_one(source(1, 200.0, -30.0))
    data["good"].create_index(SPHERE)
    data["coarse"].insert_one(source(1, 200.0, -30.0))
    add_cells(data["coarse"], (16,))
    data.command("create", "view", viewOn="good", pipeline=[])
    names = ("absent", "bare", "good", "coarse", "view")
    catalogs = Catalogs(data, {name: CrossMatch(cone_search_radius=5.0) for name in names})
    found = catalogs.match(np.array([200.0]), np.array([-30.0]))
    assert {name: len(documents) for name, (documents,) in found.items()} == {"good": 1}
    assert catalogs.missing == {
        "absent": "no such collection",
        "bare": "its positions have no index",
        "coarse": "its positions have no index",
        "view": "no such collection",
    }


def test_a_catalog_that_is_ingested_while_the_broker_runs_is_used(data: Database[Document]) -> None:
    position = np.array([200.0]), np.array([-30.0])
    declared = {"late": CrossMatch(cone_search_radius=2.0)}
    lazy, eager = Catalogs(data, declared, refresh=3600.0), Catalogs(data, declared, refresh=0.0)
    assert lazy.match(*position) == eager.match(*position) == {}
    data["late"].insert_one(source(1, 200.0, -30.0))
    data["late"].create_index(SPHERE)
    assert lazy.match(*position) == {}
    assert "late" in lazy.missing
    assert [len(documents) for documents in eager.match(*position)["late"]] == [1]
    assert eager.missing == {}
    add_cells(data["late"], ORDERS)
    assert [len(documents) for documents in eager.match(*position)["late"]] == [1]
    assert eager._present["late"].order == 16
    data["late"].drop()
    assert eager.match(*position) == {}
    assert eager.missing == {"late": "no such collection"}


def test_a_catalog_that_vanishes_between_two_looks_matches_nothing(data: Database[Document], catalog: str) -> None:
    catalogs = Catalogs(data, {catalog: CrossMatch(cone_search_radius=2.0)})
    position = np.array([200.0]), np.array([-30.0])
    assert len(catalogs.match(*position)[catalog][0]) == 5
    data[catalog].drop()
    assert catalogs.match(*position) == {catalog: [[]]}


def test_a_catalog_that_loses_its_index_is_left_out_after_one_slow_answer(
    data: Database[Document], catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs_module, "SLOW_SECONDS", 0.0)
    catalogs = Catalogs(data, {catalog: CrossMatch(cone_search_radius=2.0)})
    position = np.array([200.0]), np.array([-30.0])
    assert len(catalogs.match(*position)[catalog][0]) == 5
    data[catalog].drop_indexes()
    assert catalogs.match(*position) == {}
    assert catalogs.missing == {catalog: "its positions have no index"}


def test_a_catalog_that_takes_too_long_is_left_out_for_a_time(
    data: Database[Document], catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = {"$reduce": {"input": {"$range": [0, 100_000]}, "initialValue": 0, "in": {"$add": ["$$value", "$_id"]}}}
    declared = {catalog: CrossMatch(cone_search_radius=2.0, filter={"$expr": {"$gt": [added, -1]}})}
    position = np.array([200.0]), np.array([-30.0])
    patient, strict = Catalogs(data, declared), Catalogs(data, declared, max_time_ms=1)
    assert len(patient.match(*position)[catalog][0]) == 5
    assert strict.match(*position) == {}
    assert "a search takes longer than 1 ms; it is tried again at" in strict.missing[catalog]
    strict.refresh(0.0)
    assert catalog in strict.missing
    strict._resting[catalog] = datetime.now(UTC)
    strict.refresh(0.0)
    assert strict.missing == {}


def galaxies(data: Database[Document], **declared: Any) -> Callable[[float, float], list[Document]]:
    rule = {
        "cone_search_radius": 300.0,
        "use_distance": True,
        "distance_value": "z",
        "distance_method": "redshift",
        "cm_at_distance": 30.0,
        "cm_low_distance": 300.0,
    }

    def at(ra: float, dec: float) -> list[Document]:
        return matched(data, "galaxies", ra, dec, **{**rule, **declared})[0]

    return at


def test_galaxies_match_by_their_distance(data: Database[Document]) -> None:
    """At z = 0.05, 30 kpc are 30 arcsec; near galaxies get 300 arcsec; without a redshift there is no match."""
    near, far = source(1, 150.0, 2.0 + 200.0 / 3600.0, z=0.005), source(2, 150.0, 2.0 - 20.0 / 3600.0, z=0.05)
    others = [
        source(3, 150.0, 2.0 + 31.0 / 3600.0, z=0.05),
        source(4, 150.0, 2.0 + 1.0 / 3600.0),
        source(5, 150.0, 2.0, z=None),
    ]
    data["galaxies"].insert_many([near, far, *others])
    add_cells(data["galaxies"], (8,))
    found = galaxies(data)(150.0, 2.0)
    assert [one["_id"] for one in found] == [2, 1]
    assert [one["coordinates"]["distance_arcsec"] for one in found] == [20.0, 200.0]
    assert [one["coordinates"]["distance_kpc"] for one in found] == [20.0, -1.0]
    assert set(found[0]["coordinates"]) == {"radec_str", "radec_geojson", "distance_arcsec", "distance_kpc"}


@pytest.mark.parametrize(("ra", "dec", "name"), [(10.6847, 41.9, "PGC2557"), (23.46204, 30.9, "PGC5818")])
@pytest.mark.parametrize("projection", [{}, {"_id": 0, "z": 1}])
def test_andromeda_and_triangulum_are_in_every_catalog_of_galaxies(
    data: Database[Document], ra: float, dec: float, name: str, projection: Document
) -> None:
    """Also among others, in order of separation; a catalog's own entry of them is not listed a second time."""
    data["galaxies"].insert_many(
        [
            source(1, ra, dec + 100.0 / 3600.0, z=0.001),
            source(596900, ra, dec, z=0.001),
            source(597543, ra, dec, z=0.001),
        ]
    )
    data["galaxies"].create_index(SPHERE)
    found = galaxies(data)(ra, dec)
    assert [one["_id"] for one in found] == [1, {"PGC2557": 596900, "PGC5818": 597543}[name]]
    assert found[1]["name"] == name
    assert found[1]["coordinates"]["distance_arcsec"] == pytest.approx(
        (dec - {"PGC2557": 41.26901, "PGC5818": 30.66022}[name]) * 3600.0, abs=0.006
    )
    assert galaxies(data)(ra, dec + 5.0) == []
    assert name in [one.get("name") for one in galaxies(data, projection=projection)(ra, dec)]


def test_indexes_say_what_a_catalog_carries(data: Database[Document]) -> None:
    data["c"].insert_one(source(1, 200.0, -30.0))
    assert indexes.healpix_orders(data, "c") == []
    assert not indexes.has_sphere(data, "c")
    assert indexes.healpix_orders(data, "absent") == []
    add_cells(data["c"], (8, 16))
    data["c"].create_index([*SPHERE, ("_id", 1)])
    data["c"].create_index([("mag", 1), ("coordinates.hpx_14", 1)])  # serves no search by cell
    assert indexes.healpix_orders(data, "c") == [8, 16]
    assert indexes.has_sphere(data, "c")


# Catalogs that grow


def detection(number: int, name: str, arcsec: float, jd: float, program: int = 1) -> Document:
    """An alert that lies ``arcsec`` north of (150, 20)."""
    candidate = {"jd": jd, "programid": program}
    return source(number, 150.0, 20.0 + arcsec / 3600.0, objectId=name, candidate=candidate, stamp=b"x" * 1000)


def test_of_many_alerts_only_the_newest_nearby_is_a_match(data: Database[Document]) -> None:
    data["alerts"].insert_many(
        [
            *(detection(number, "near", 1.0, 2460000.5 + number) for number in range(20)),
            detection(30, "newer", 3.0, 2460030.5),
            detection(31, "newest, but private", 1.0, 2460040.5, program=2),
            detection(32, "newest, but too far", 9.0, 2460050.5),
            {**source(33, 10.0, 20.0), "objectId": "without a time"},
        ]
    )
    data["alerts"].create_index(SPHERE)
    declared = {
        "cone_search_radius": 8.0,
        "filter": {"candidate.programid": {"$ne": 2}},
        "projection": {"_id": 0, "objectId": 1, "candidate.jd": 1},
        "latest": {"object": "objectId", "time": "candidate.jd"},
    }
    found = matched(data, "alerts", [150.0, 10.0, 200.0], [20.0, 20.0, 0.0], **declared)
    assert found == [
        [{"objectId": "newer", "candidate": {"jd": 2460030.5}}],
        [{"objectId": "without a time"}],
        [],
    ]


def test_cells_that_only_some_sources_have_are_not_searched_by(data: Database[Document]) -> None:
    """An index for cells to come must not hide the sources that were there before it."""
    data["c"].insert_one({"_id": 1, "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [20.0, -30.0]}}})
    data["c"].create_index(SPHERE)
    data["c"].create_index([("coordinates.hpx_16", 1)])
    ((found,),) = matched(data, "c", 200.0, -30.0)
    assert found["_id"] == 1
    add_cells(data["c"], [16])
    data["c"].drop_index("coordinates.radec_geojson_2dsphere")
    ((found,),) = matched(data, "c", 200.0, -30.0)
    assert found["_id"] == 1
