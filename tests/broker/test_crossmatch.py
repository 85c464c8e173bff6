"""The cross-match stage on a real MongoDB: new objects only, at the position of their earliest alert."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.archive.client import data_database
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import Settings
from kowalski.config.settings import CrossMatch
from kowalski.ingesters.cells import add_cells
from kowalski.surveys import get

Record = dict[str, Any]


@pytest.fixture
def context(settings: Settings, mongo: MongoClient[Record]) -> Iterator[WorkerContext]:
    """A worker with two catalogs: sources at declinations 20 and 21, one catalog with cells, one without."""
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {
        name: CrossMatch(cone_search_radius=2.0, projection={"_id": 1}) for name in ("cells", "plain", "absent")
    }
    data = data_database(mongo, settings)
    for name in ("cells", "plain"):
        data[name].insert_many(
            [
                {"_id": dec, "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [-30.0, float(dec)]}}}
                for dec in (20, 21)
            ]
        )
    add_cells(data["cells"], (16,))
    data["plain"].create_index([("coordinates.radec_geojson", "2dsphere")])
    opened = WorkerContext.open(settings, get("ZTF"))
    yield opened
    opened.data.client.close()


def matches(context: WorkerContext) -> dict[str, Any]:
    return {one["_id"]: one["cross_matches"] for one in context.data[context.survey.objects].find()}


def both(*ids: int) -> dict[str, list[Record]]:
    return {name: [{"_id": one} for one in ids] for name in ("cells", "plain")}


def test_new_objects_are_matched_at_their_earliest_alert(context: WorkerContext, packet: Any) -> None:
    process(
        [
            packet(1, "ZTF23aaaaaaa", 2460001.5, dec=21.0),
            packet(2, "ZTF23aaaaaaa", 2460000.5, dec=20.0 + 1.9 / 3600.0),
            packet(3, "ZTF23aaaaaab", dec=20.0 + 2.1 / 3600.0),
        ],
        context,
    )
    expected = {"ZTF23aaaaaaa": both(20), "ZTF23aaaaaab": both()}
    assert matches(context) == expected
    assert context.catalogs.missing == {"absent": "no such collection"}
    process([packet(4, "ZTF23aaaaaaa", 2460002.5, dec=21.0)], context)  # an old object is not matched again
    process([packet(3, "ZTF23aaaaaab", dec=21.0)], context)
    assert matches(context) == expected


def test_known_objects_are_matched_again_with_catalogs_that_grow(context: WorkerContext, packet: Any) -> None:
    context.catalogs.declared["plain"].refresh = True
    process([packet(1, "ZTF23aaaaaaa", dec=22.0), packet(2, "ZTF23aaaaaab", dec=20.0)], context)
    process([packet(3, "ZTF23aaaaaaa", 2460002.5, dec=21.0), packet(4, "ZTF23aaaaaab", 2460002.5, dec=22.0)], context)
    # what was found before stays where there is nothing now
    assert matches(context) == {"ZTF23aaaaaaa": {"cells": [], "plain": [{"_id": 21}]}, "ZTF23aaaaaab": both(20)}
