"""Dead letters get another chance: what can be processed now is gone from the list, the rest stays with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import dead_letters, names
from kowalski.archive.client import system_database
from kowalski.cli.main import build
from kowalski.config import Settings
from kowalski.surveys import get
from kowalski.testing import services


@pytest.fixture
def settings(settings: Settings) -> Settings:
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    return settings


def test_list_show_replay_and_drop(
    settings: Settings,
    mongo: MongoClient[dict[str, Any]],
    dask_cluster: services.DaskCluster,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    for name, value in services.environment(settings).items():
        monkeypatch.setenv(name, value)
    letters = system_database(mongo, settings)[names.DEAD_LETTERS]
    values = [make.encode(make.record(5)), b"never readable", make.encode(make.record(6))]
    refused = [
        (dead_letters.letter_id("t", 0, i), 1_700_000_000_000, value, "store", "a fault")
        for i, value in enumerate(values)
    ]
    dead_letters.write(letters, "ZTF", refused)
    dead_letters.write(
        letters, "ZTF", [(refused[0][0], 0, b"", "decode", "the second report of one packet changes nothing")]
    )
    run = lambda *words: CliRunner().invoke(build(), ["deadletters", *words])  # noqa: E731

    listed = run("list")
    assert "3 dead letters" in listed.output
    shown = run("show", "t:0:1", "--save", str(tmp_path / "packet"))
    assert "a fault" in shown.output
    assert (tmp_path / "packet").read_bytes() == b"never readable"
    assert run("show", "t:0:77").exit_code == 2
    assert run("show", "nonsense").exit_code == 2
    assert run("replay").exit_code == 2

    replayed = run("replay", "--all")
    assert replayed.exit_code == 1
    assert "2 processed, 1 still dead letters" in replayed.output
    assert "t:0:1: " in replayed.output
    assert [letter["_id"]["offset"] for letter in letters.find()] == [1]
    stored = mongo[settings.database.db][get("ZTF").alerts].find()
    assert {alert["_id"] for alert in stored} == {5, 6}

    assert "1 dead letters removed" in run("drop", "t:0:1").output
    assert letters.count_documents({}) == 0
    assert run("replay", "t:0:1").exit_code == 1
