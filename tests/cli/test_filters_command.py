"""``filters list|show|test|dryrun`` on a real MongoDB."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import client, filter_statistics, filters, names
from kowalski.archive.filter_statistics import Statistics
from kowalski.cli import filters as command
from kowalski.config import Settings
from kowalski.surveys import get
from kowalski.testing import services

Run = Callable[..., Result]
NIGHT = 2460229.5


@pytest.fixture
def run(mongo: MongoClient[dict[str, Any]], settings: Settings) -> Run:
    """Run the command as the operator of an instance with a night of 20 alerts and two filters."""
    survey = get("ZTF")
    client.data_database(mongo, settings)[survey.alerts].insert_many(
        {
            "_id": number,
            "candid": number,
            survey.object_id_field: f"object{number % 2}",
            "candidate": {"jd": NIGHT + (number + 0.5) / 240, "programid": 1},
        }
        for number in range(20)
    )
    system = client.system_database(mongo, settings)
    for number, stages in ((1, [{"$match": {"candid": {"$lt": 12}}}]), (2, [{"$limit": 1}])):
        version = filters.new_version(json.dumps(stages)) | {"fid": f"fid{number:03d}"}
        facts = {"filter_id": number, "group_id": 7, "catalog": survey.alerts, "permissions": [1], "active": True}
        system[names.FILTERS].insert_one({**facts, "active_fid": version["fid"], "fv": [version]})
    filters.suspend(system, 2, "fid002", "too slow")
    counted = Statistics()
    counted.count((1, "fid001"), 2000, 150, 500.0)
    counted.write(system)
    filter_statistics.add_error(system, (2, "fid002"), "failed")
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    environment = services.environment(settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, ["filters", *arguments], env=environment)


def test_filters_are_listed_with_how_they_do(run: Run) -> None:
    done = run("list")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["1", "7", "ZTF_alerts", "fid001", "1", "2,000", "150", "0", "0.25", "on"]
    assert lines[2] == ["2", "7", "ZTF_alerts", "fid002", "1", "0", "0", "1", "-", "suspended:", "too", "slow"]
    assert lines[3] == ["2", "filters"]
    assert json.loads(run("show", "1").stdout)["fv"][0]["fid"] == "fid001"


def test_a_filter_is_run_on_the_archive(run: Run) -> None:
    def passed(*options: str) -> list[int]:
        done = run("test", "1", *options)
        assert done.exit_code == 0, done.output
        return sorted(json.loads(line)["candid"] for line in done.stdout.splitlines())

    assert passed() == passed("--night", "20231012") == passed("--version", "fid001") == list(range(12))
    assert passed("--object", "object1") == [1, 3, 5, 7, 9, 11]
    assert passed("--night", "20231011") == []


def test_a_dry_run_is_told_hour_by_hour(run: Run) -> None:
    done = run("dryrun", "1")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["2023-10-12", "00:00", "10", "10", "10"]
    assert lines[2].split() == ["2023-10-12", "01:00", "10", "10", "2"]
    assert lines[3] == "12 passed of 20 examined of 20"
    assert lines[4] == "pass rate 60.00%; 12 of the whole night"
    assert lines[5].endswith("ms per alert")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", "9"), "there is no filter 9"),
        (("test", "1", "--version", "nobody"), "it has no version nobody"),
        (("dryrun", "1", "--night", "yesterday"), "is no date"),
    ],
)
def test_what_is_not_there(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert complaint in done.output
