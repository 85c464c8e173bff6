"""HEALPix cells of a catalog's sources, in a real MongoDB."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pytest
from cdshealpix import nested
from pymongo import MongoClient
from pymongo.collection import Collection

from kowalski.archive import client, indexes
from kowalski.config import Settings
from kowalski.ingesters import cells
from kowalski.science.coordinates import healpix_cells

Document = dict[str, Any]


@pytest.fixture
def catalog(mongo: MongoClient[Document], settings: Settings) -> Collection[Document]:
    return client.data_database(mongo, settings)["c"]


def sources(n: int) -> list[Document]:
    random = np.random.default_rng(3)
    ra, dec = random.uniform(0.0, 360.0, n), np.degrees(np.arcsin(random.uniform(-1.0, 1.0, n)))
    ra[:4], dec[:4] = [0.0, 360.0, 10.0, 20.0], [0.0, 0.0, 90.0, -90.0]
    return [
        {"_id": i, "mag": 1.0, "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [a - 180.0, d]}}}
        for i, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True))
    ]


def test_fields_hold_the_cell_in_which_a_position_lies() -> None:
    """The centre of the cell is no further than a cell is wide."""
    ra, dec = [0.0, 123.456, 359.999999, 10.0], [0.0, -45.6, 89.9999, -90.0]
    fields = cells.cell_fields(ra, dec, (16, 8))
    assert [set(each) for each in fields] == [{"hpx_16", "hpx_8"}] * 4
    for order in (16, 8):
        cell = np.array([each[f"hpx_{order}"] for each in fields], np.uint64)
        lon, lat = nested.healpix_to_lonlat(cell, np.uint8(order))
        d, there = np.radians(dec), lat.to_value(u.rad)
        cosine = np.sin(d) * np.sin(there) + np.cos(d) * np.cos(there) * np.cos(lon.to_value(u.rad) - np.radians(ra))
        assert (np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))) < 60.0 * 2.0**-order + 1e-6).all()
        assert all(type(each[f"hpx_{order}"]) is int for each in fields)


def test_no_positions_have_no_cells() -> None:
    assert cells.cell_fields([], [], (16, 8)) == []


def test_every_source_gets_its_cells_and_keeps_the_rest(catalog: Collection[Document]) -> None:
    before = sources(500)
    catalog.insert_many(before)
    assert cells.add_cells(catalog, (16, 8)) == 500
    after = list(catalog.find().sort("_id", 1))
    place = np.array([one["coordinates"]["radec_geojson"]["coordinates"] for one in before])
    for order in (16, 8):
        expected = healpix_cells(place[:, 0] + 180.0, place[:, 1], order).tolist()
        assert [one["coordinates"].pop(f"hpx_{order}") for one in after] == expected
    assert after == before
    assert indexes.healpix_orders(catalog.database, catalog.name) == [8, 16]


def test_repeating_serves_new_sources_and_further_orders(catalog: Collection[Document]) -> None:
    given = sources(20)
    catalog.insert_many(given[:10])
    cells.add_cells(catalog, (16,))
    catalog.insert_many(given[10:])
    assert cells.add_cells(catalog, (16, 14)) == 20
    assert catalog.count_documents({"coordinates.hpx_16": {"$type": "number"}}) == 20
    assert catalog.count_documents({"coordinates.hpx_14": {"$type": "number"}}) == 20
    once = list(catalog.find())
    cells.add_cells(catalog, (16, 14))
    assert list(catalog.find()) == once
    assert indexes.healpix_orders(catalog.database, catalog.name) == [14, 16]


def test_an_index_of_another_name_is_good_enough(catalog: Collection[Document]) -> None:
    catalog.insert_many(sources(5))
    catalog.create_index([("coordinates.hpx_16", 1)])
    assert cells.add_cells(catalog, (16,)) == 5
    assert len(catalog.index_information()) == 2


def test_sources_without_a_position_are_left_as_they_are(catalog: Collection[Document]) -> None:
    odd = [{"_id": 100, "mag": 1.0}, {"_id": 101, "coordinates": {"radec_str": ["a", "b"]}}]
    catalog.insert_many([*sources(5), *odd])
    assert cells.add_cells(catalog, (16,)) == 5
    assert list(catalog.find({"_id": {"$gte": 100}}).sort("_id", 1)) == odd


def test_progress_is_told_by_chunks(catalog: Collection[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CHUNK", 10)
    catalog.insert_many(sources(25))
    told: list[tuple[int, int]] = []
    cells.add_cells(catalog, (16,), lambda done, total: told.append((done, total)))
    assert told == [(10, 25), (20, 25), (25, 25)]
    assert catalog.count_documents({"coordinates.hpx_16": {"$exists": True}}) == 25
