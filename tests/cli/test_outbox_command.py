"""``outbox list``, ``show``, ``retry`` and ``drop`` on a real MongoDB."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from pymongo.collection import Collection
from typer.testing import CliRunner

from kowalski.archive import names
from kowalski.archive.client import system_database
from kowalski.archive.outbox import State, identity
from kowalski.cli import outbox
from kowalski.config import Settings
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]


def entry(candid: int, state: State, **changes: Any) -> Document:
    facts = {"objectId": "ZTF20aaelulu", "jd": 2459000.5, "ra": 1.0, "dec": 2.0, "score": None, "kafka_timestamp": 0}
    progress = {"steps": ["candidate:1:1"], "refused": {}, "intents": {}, "attempts": 3, "error": None}
    moments = dict.fromkeys(("created_at", "next_attempt_at"), datetime(2026, 3, 1, candid, tzinfo=UTC))
    passes = {"1:1": {"group_id": 1, "filter_id": 1}}
    document = {"_id": identity("ZTF", candid), "state": state.value, "passes": passes, "photometry": {"since": 1.0}}
    return document | facts | progress | moments | changes


@pytest.fixture
def box(mongo: MongoClient[Document], settings: Settings) -> Collection[Document]:
    found = system_database(mongo, settings)[names.OUTBOX]
    refused = {
        "refused": {"save:9": "POST /api/sources: 400 Cannot find group_id 9"},
        "error": "Cannot find group_id 9",
    }
    found.insert_many(
        [
            entry(1, State.FAILED, **refused),
            entry(2, State.PENDING),
            entry(3, State.DELIVERED, expires_at=datetime(2027, 1, 1, tzinfo=UTC)),
            entry(4, State.FAILED, **refused),
            entry(5, State.KEPT),
        ]
    )
    return found


@pytest.fixture
def run(box: Collection[Document], settings: Settings) -> Run:
    app = typer.Typer()
    outbox.register(app)
    app.command("other")(lambda: None)
    environment = services.environment(settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, ["outbox", *arguments], env=environment)


def states(box: Collection[Document]) -> dict[int, str]:
    return {each["_id"]["candid"]: each["state"] for each in box.find()}


def test_list_tells_what_was_refused_and_why(run: Run) -> None:
    told = run("list")
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert [line.split()[0] for line in lines if "ZTF:" in line] == ["ZTF:4", "ZTF:1"]
    assert "Cannot find group_id 9" in told.stdout
    assert "2 failed alerts" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "found", "total"),
    [
        (("--state", "all"), [5, 4, 3, 2, 1], "5 alerts"),
        (("--state", "pending"), [2], "1 pending alerts"),
        (("--state", "failed", "--limit", "1"), [4], "2 failed alerts, 1 shown"),
        (("--survey", "PGIR"), [], "0 failed alerts"),
    ],
)
def test_list_chooses(run: Run, arguments: tuple[str, ...], found: list[int], total: str) -> None:
    told = run("list", *arguments)
    assert [int(word.split()[0][4:]) for word in told.stdout.splitlines() if word.startswith("ZTF:")] == found
    assert total in told.stdout


def test_show_tells_everything_but_the_light_curve(run: Run) -> None:
    shown = json.loads(run("show", "ztf:1").stdout)
    assert shown["refused"] == {"save:9": "POST /api/sources: 400 Cannot find group_id 9"}
    assert shown["steps"] == ["candidate:1:1"]
    assert "photometry" not in shown


def test_retry(run: Run, box: Collection[Document]) -> None:
    assert "1 alerts will be tried again" in run("retry", "ZTF:1").stdout
    document = box.find_one({"_id.candid": 1}) or {}
    assert (document["state"], document["refused"], document["error"], document["attempts"]) == ("pending", {}, None, 0)
    assert document["steps"] == ["candidate:1:1"]
    assert "1 alerts" in run("retry", "--all").stdout
    assert states(box) == {1: "pending", 2: "pending", 3: "delivered", 4: "pending", 5: "kept"}


def test_drop_gives_up_and_retry_brings_back(run: Run, box: Collection[Document]) -> None:
    assert "2 alerts dropped" in run("drop", "ZTF:1", "ZTF:2").stdout
    assert states(box) == {1: "dropped", 2: "dropped", 3: "delivered", 4: "failed", 5: "kept"}
    assert "expires_at" in (box.find_one({"_id.candid": 1}) or {})
    run("retry", "ZTF:2")
    document = box.find_one({"_id.candid": 2}) or {}
    assert document["state"] == "pending"
    assert "expires_at" not in document


@pytest.mark.parametrize(
    ("arguments", "trouble"),
    [
        (("retry",), "name alerts by id, or take --all"),
        (("drop", "ZTF:1", "--all"), "name alerts by id, or take --all"),
        (("show", "ZTF:99"), "there is no alert ZTF:99"),
        (("show", "ZTF"), "SURVEY:CANDID"),
        (("list", "--state", "lost"), "pending, failed"),
        (("retry", "ZTF:3"), "1 are not in the outbox, or not in a state for it"),
        (("drop", "ZTF:5"), "1 are not in the outbox, or not in a state for it"),
    ],
)
def test_what_can_not_be_done_is_told(
    run: Run, box: Collection[Document], arguments: tuple[str, ...], trouble: str
) -> None:
    before = states(box)
    told = run(*arguments)
    assert told.exit_code != 0
    assert trouble in " ".join(told.output.replace("│", " ").split())
    assert states(box) == before
