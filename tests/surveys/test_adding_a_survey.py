"""The example of docs/adding-a-survey.md, run as it is written: a survey by settings alone, from Kafka to a filter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo import MongoClient
from pymongo.database import Database

from kowalski import surveys
from kowalski.archive import client, filters, names
from kowalski.config import PROJECT, ConfigError, Settings, load, sources
from kowalski.testing import services

Record = dict[str, Any]

PAGE = (PROJECT / "docs" / "adding-a-survey.md").read_text()
PATIENCE = 120.0


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Other tests of this process know nothing of the example."""
    before, modules = set(surveys.SURVEYS), set(sys.modules)
    yield
    for name in surveys.SURVEYS.keys() - before:
        del surveys.SURVEYS[name]
    for name in {name for name in sys.modules if name.startswith("kowalski_plugin_")} - modules:
        del sys.modules[name]


def write_plugin(folder: Path) -> str:
    (folder / "argus.py").write_text(block("python"))
    (folder / "argus_schema.json").write_text(block("json"))
    return str(folder / "argus.py")


@pytest.fixture
def own(settings: Settings, mongo: MongoClient[Record], kafka: str, tmp_path: Path) -> Settings:
    """An instance whose settings are those of the page; it takes in no other survey."""
    written = yaml.safe_load(services.write_config(settings).read_text())
    written["surveys"] = {}
    added = yaml.safe_load(block("yaml").replace("plugins/argus.py", write_plugin(tmp_path)))
    path = settings.path.run / "config.yaml"
    path.write_text(yaml.safe_dump(sources.merge(written, added)))
    return load(path, {}).settings


def kowalski(own: Settings, words: list[str]) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "kowalski.cli", *words],
        env={**services.environment(own), "PATH": "", "COLUMNS": "300"}, cwd=own.path.run,
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_example_takes_in_alerts(own: Settings, mongo: MongoClient[Record]) -> None:
    assert own.enabled_surveys == ("ARGUS",)
    data, system = client.data_database(mongo, own), client.system_database(mongo, own)
    version = filters.new_version(json.dumps([{"$match": {"candidate.magpsf": {"$gt": 0}}}]))
    system[names.FILTERS].insert_one({
        "group_id": 1, "filter_id": 1, "catalog": "ARGUS_alerts", "permissions": [], "active": True, "autosave": False,
        "auto_followup": {}, "update_annotations": False, "fv": [version], "active_fid": version["fid"],
    })  # fmt: skip
    simulate, stream, _ = (line.split()[1:] for line in block("sh").splitlines())
    kowalski(own, simulate)
    kowalski(own, stream)
    log = own.path.run / "logs" / "broker.log"
    command = [sys.executable, "-m", "kowalski.cli", "run", "broker", "--survey", "ARGUS"]
    with services.dask_cluster(own):
        broker = services.Process("broker", command, services.environment(own), log)
        broker.start()
        try:
            wait_for(system, 40, broker)
        finally:
            broker.stop()
    assert data["ARGUS_alerts"].count_documents({}) == 40
    assert set(data["ARGUS_alerts"].index_information()) == {"_id_", "radec_candid", "objectId"}
    alert = data["ARGUS_alerts"].find_one() or {}
    known = data["ARGUS_alerts_aux"].find_one({"_id": alert["objectId"]}) or {}
    assert known["aliases"] == {}
    assert all(row["jd"] < alert["candidate"]["jd"] + 1.0 for row in known["prv_candidates"])
    assert system[names.DEAD_LETTERS].count_documents({}) == 0


def wait_for(system: Database[Record], count: int, broker: services.Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while system[names.OUTBOX].count_documents({"_id.survey": "ARGUS"}) < count:
        broker.check()
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be imported: FileNotFoundError"),
        ("import nothing_of_that_name", "can't be imported: ModuleNotFoundError"),
        ("class Survey: ...", "declares no survey"),
        ("from kowalski.surveys.base import Survey\nclass X(Survey):\n    name = 'X'", "does not declare topics"),
        ("PAGE", "there is a survey ZTF already"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "argus.py"
    if text is not None:
        file.write_text(block("python").replace('"ARGUS"', '"ZTF"') if text == "PAGE" else text)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"surveys": {"plugins": [str(file)]}}))
    with pytest.raises(ConfigError, match=message) as told:
        load(tmp_path / "config.yaml", {})
    assert str(tmp_path / "config.yaml") in str(told.value)


def test_a_plugin_is_taken_in_once(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"surveys": {"plugins": [write_plugin(tmp_path)]}}))
    first = load(tmp_path / "config.yaml", {}).settings
    survey = surveys.get("argus")
    assert "ARGUS" in first.enabled_surveys
    assert load(tmp_path / "config.yaml", {}).settings.surveys["ARGUS"].enabled
    assert surveys.get("argus") is survey
