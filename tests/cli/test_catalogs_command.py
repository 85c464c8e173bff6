"""``catalogs list`` and ``catalogs index`` on a real MongoDB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import client, indexes, inventory
from kowalski.cli import catalogs
from kowalski.config import Settings
from kowalski.config.settings import CrossMatch
from kowalski.ingesters import cells
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]


@pytest.fixture
def data(mongo: MongoClient[Document], settings: Settings) -> Database[Document]:
    """Three catalogs beside the survey's collections and a view."""
    wide = CrossMatch(cone_search_radius=0.2, cone_search_unit="deg")
    settings.database.xmatch = {
        "ZTF": {
            "Gaia": CrossMatch(cone_search_radius=8.0),
            "CLU": CrossMatch(cone_search_radius=5.0, cone_search_unit="arcmin"),
            "absent": CrossMatch(cone_search_radius=2.0),
            "wide": wide,
        },
    }
    found = client.data_database(mongo, settings)
    for name in ("Gaia", "CLU", "wide", "other", "ZTF_alerts", "ZTF_alerts_aux"):
        place = {"radec_geojson": {"type": "Point", "coordinates": [10.0, 20.0]}}
        found[name].insert_many([{"_id": i, "coordinates": place} for i in range(3)])
    found["Gaia"].create_index([("coordinates.radec_geojson", "2dsphere"), ("_id", 1)], name="radec")
    found["CLU"].create_index("z", name="redshift")
    found["wide"].create_index([("coordinates.radec_geojson", "2dsphere")], name="radec")
    found.command("create", "view", viewOn="Gaia", pipeline=[])
    return found


@pytest.fixture
def run(data: Database[Document], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command as the operator of this instance, on a wide terminal."""
    app = typer.Typer()
    catalogs.register(app)
    app.command("other")(lambda: None)
    environment = services.environment(settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, ["catalogs", *arguments], env=environment)


def test_catalogs_are_listed_with_what_is_wrong(run: Run) -> None:
    done = run("list")
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: " ".join(line.split()) for line in done.stdout.splitlines() if line.strip()}
    assert lines["Gaia"] == (
        "Gaia 3 radec ZTF 8″ carries no cells for 8 arcsec: matched by geometry, ten times as dear"
    )
    assert lines["CLU"].endswith("carries no cells for 300 arcsec and its positions have no index: not matched")
    assert lines["absent"] == "absent ZTF 2″ no such collection"
    assert lines["other"] == "other 3"
    assert "4 catalogs" in done.stdout
    assert not {"ZTF_alerts", "ZTF_alerts_aux", "view", "system.views"} & lines.keys()


def test_a_catalog_gets_the_cells_that_its_cross_matches_need(run: Run, data: Database[Document]) -> None:
    for name, told, orders in (("Gaia", "14", [14]), ("CLU", "8", [8])):
        done = run("index", name)
        assert done.exit_code == 0, done.output
        assert f"3 sources of {name} carry cells of order {told}" in done.stdout
        assert indexes.healpix_orders(data, name) == orders
    lines = [line.split() for line in run("list").stdout.splitlines()]
    assert ["Gaia", "3", "14", "hpx_14", "radec", "ZTF", "8″"] in lines


def test_orders_may_be_named(run: Run, data: Database[Document]) -> None:
    done = run("index", "other", "--order", "10", "--order", "12")
    assert done.exit_code == 0, done.output
    assert indexes.healpix_orders(data, "other") == [10, 12]


REFUSED = [
    (("index", "absent"), ("no catalog absent", "CLU, Gaia, ZTF_alerts, names, other, wide")),
    (("index", "ZTF_alerts_aux"), ("no catalog ZTF_alerts_aux",)),
    (("index", "other"), ("no configured cross-match of other",)),
    (("index", "wide"), ("no configured cross-match of wide", "--order")),
    (("index", "other", "--order", "30"), ("--order", "29")),
    (("index",), ("NAME",)),
]


def test_what_cannot_be_indexed_is_said_in_a_sentence(run: Run, data: Database[Document]) -> None:
    data["names"].insert_one({"_id": 1, "name": "x"})
    for arguments, words in [*REFUSED, (("index", "names", "--order", "16"), ("have no positions",))]:
        done = run(*arguments)
        assert done.exit_code == 2
        assert all(word in done.output for word in words), done.output
        assert "Traceback" not in done.output


def test_a_catalog_is_dropped_if_that_is_meant(run: Run, data: Database[Document]) -> None:
    assert run("drop", "CLU").exit_code == 1, "nobody said yes"
    assert "CLU" in data.list_collection_names()
    done = run("drop", "CLU", "--yes")
    assert done.exit_code == 0, done.output
    assert "CLU is gone, with 3 sources" in done.stdout
    assert "CLU" not in data.list_collection_names()
    assert run("drop", "ZTF_alerts", "--yes").exit_code == 2, "alerts are no catalog"
    assert data["ZTF_alerts"].count_documents({}) == 3


def test_a_wide_radius_needs_an_index_of_positions_only(data: Database[Document], settings: Settings) -> None:
    entries = {entry.name: entry for entry in inventory.take(data, settings.database.xmatch, ["ZTF_alerts"])}
    assert "ZTF_alerts" not in entries
    assert entries["ZTF_alerts_aux"].radii == {}
    assert entries["ZTF_alerts_aux"].problem is None
    assert entries["wide"].has_sphere
    assert entries["wide"].radii == {"ZTF": 720.0}
    assert inventory.wanted_orders(settings.database.xmatch, "wide") == ()
    assert inventory.wanted_orders(settings.database.xmatch, "other") == ()


def test_surveys_may_need_different_orders(data: Database[Document]) -> None:
    declared = {
        "one": {"Gaia": CrossMatch(cone_search_radius=2.0)},
        "two": {"Gaia": CrossMatch(cone_search_radius=8.0)},
        "three": {"Gaia": CrossMatch(cone_search_radius=1.0)},
    }
    assert inventory.wanted_orders(declared, "Gaia") == (16, 14)
    cells.add_cells(data["Gaia"], (16,))
    (entry,) = [entry for entry in inventory.take(data, declared, []) if entry.name == "Gaia"]
    assert entry.radii == {"one": 2.0, "two": 8.0, "three": 1.0}
    assert entry.orders == (16,)
    assert entry.problem is not None
    assert "8 arcsec" in entry.problem
    cells.add_cells(data["Gaia"], (14,))
    (entry,) = [entry for entry in inventory.take(data, declared, []) if entry.name == "Gaia"]
    assert entry.problem is None
