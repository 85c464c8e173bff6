"""A database as an older version has left it is brought up to date, and a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import indexes, names
from kowalski.archive.client import data_database, system_database
from kowalski.cli import migrate
from kowalski.config import Settings
from kowalski.migrations import registry
from kowalski.runtime import lifecycle
from kowalski.runtime.errors import ServiceError
from kowalski.science.coordinates import ALERT_ORDER, healpix_cells
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]


@pytest.fixture
def old(mongo: MongoClient[Document], settings: Settings) -> tuple[Database[Document], Database[Document]]:
    """What version 0 has stored: alerts without cells, and light curves in every document of the outboxes."""
    data, system = data_database(mongo, settings), system_database(mongo, settings)
    place = {"radec_geojson": {"type": "Point", "coordinates": [-170.0, 20.0]}}
    data["ZTF_alerts"].insert_many([{"_id": n, "candid": n, "coordinates": dict(place)} for n in range(3)])
    for name in names.OUTBOXES.values():
        states = ("kept", "delivered", "pending", "failed")
        system[name].insert_many([{"_id": state, "state": state, "photometry": {"mjd": [1.0]}} for state in states])
    return data, system


@pytest.fixture
def run(settings: Settings) -> Run:
    app = typer.Typer()
    migrate.register(app)
    app.command("other")(lambda: None)
    environment = services.environment(settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, ["migrate", *arguments], env=environment)


def test_an_older_database_is_refused_then_migrated(run: Run, old: Any, settings: Settings) -> None:
    data, system = old
    with pytest.raises(ServiceError, match=r"version 0.*make a backup, then run ./kowalski.py migrate"):
        lifecycle._check_version(settings)
    before = [list(system[name].find()) for name in names.OUTBOXES.values()]
    told = run("--dry-run")
    assert told.exit_code == 0, told.output
    assert "1: would take light curves out of outbox documents" in told.stdout
    assert "nothing is to be delivered: 4 documents" in told.stdout
    assert "cells of order 14: 3 documents" in told.stdout
    assert [list(system[name].find()) for name in names.OUTBOXES.values()] == before
    assert registry.version(system) == 0

    done = run()
    assert done.exit_code == 0, done.output
    assert f"version {registry.CURRENT}, as this Kowalski is" in done.stdout
    for name in names.OUTBOXES.values():
        held = {each["_id"]: each["photometry"] for each in system[name].find()}
        assert held == {
            "kept": None, "delivered": None, "pending": {"mjd": [1.0]}, "failed": {"mjd": [1.0]},
        }  # fmt: skip
    (cell,) = healpix_cells([10.0], [20.0], ALERT_ORDER)
    assert [each["coordinates"]["hpx_14"] for each in data["ZTF_alerts"].find()] == [int(cell)] * 3
    assert indexes.healpix_orders(data, "ZTF_alerts") == [ALERT_ORDER]
    lifecycle._check_version(settings)
    assert [step.apply(data, system) for step in registry.STEPS] == [0] * registry.CURRENT
    assert run().exit_code == 0


def test_an_interrupted_migration_goes_on(old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, system = old
    steps = registry.run(data, system)
    assert next(steps)[0].number == 1
    steps.close()
    assert registry.version(system) == 1
    assert [step.number for step, _ in registry.run(data, system)] == [2]


def test_a_newer_database_is_refused(run: Run, mongo: MongoClient[Document], settings: Settings) -> None:
    system = system_database(mongo, settings)
    registry.set_version(system, registry.CURRENT + 1)
    for attempt in (lambda: lifecycle._check_version(settings), lambda: registry.due(system)):
        with pytest.raises((ServiceError, registry.MigrationError), match="a newer one has worked with it"):
            attempt()
    assert isinstance(run().exception, registry.MigrationError)
    assert registry.version(system) == registry.CURRENT + 1


def test_a_new_database_gets_the_version_of_today(mongo: MongoClient[Document], settings: Settings) -> None:
    lifecycle._check_version(settings)
    system = system_database(mongo, settings)
    system[names.USERS].insert_one({"_id": "vera"})
    assert registry.version(system) == registry.CURRENT
    lifecycle._check_version(settings)
