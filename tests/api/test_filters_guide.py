"""The guide to filters does what it says: its examples run, and what they have set up reaches the outboxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from kowalski import surveys
from kowalski.archive import indexes, names
from kowalski.archive.client import connect, data_database, system_database
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import PROJECT
from kowalski.testing import simulator

TEXT = (PROJECT / "docs" / "filters.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
ZTF = surveys.get("ZTF")
ALERTS = 60


@pytest.fixture(scope="module")
def night(new_archive: Any, run_api: Any) -> Iterator[Any]:
    archive = new_archive()
    settings = archive.settings
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    settings.server.processes = 1
    settings.distribution.enabled = True
    indexes.ensure(data_database(archive.mongo, settings), settings, ZTF)
    ingest(settings, 1)
    yield from run_api(settings)


def ingest(settings: Any, seed: int) -> None:
    """Take in simulated alerts as a worker does."""
    context, writer = WorkerContext.open(settings, ZTF), simulator.writer("ZTF")
    made = simulator.packets(ALERTS, "ZTF", seed=seed)
    packets = [Packet("t", 0, 1000 * seed + at, 1, writer.encode(each.packet)) for at, each in enumerate(made)]
    assert process(packets, context).alerts == ALERTS
    context.data.client.close()


def test_the_examples_run_and_the_filter_works(night: Any) -> None:
    known: dict[str, Any] = {}
    for example in EXAMPLES:
        here = example.replace("port=4000", f"port={night.settings.server.port}")
        exec(compile(here, "docs/filters.md", "exec"), known)  # the project's own text
    assert known["report"]["examined"] == ALERTS
    assert 0 < known["report"]["passed"] < ALERTS
    assert {each["_id"] for each in known["results"]} <= {each["candid"] for each in known["report"]["passes"]}
    ingest(night.settings, 2)
    for box in names.OUTBOXES.values():
        with connect(night.settings) as mongo:
            found = list(system_database(mongo, night.settings)[box].find())
        passes = [each["passes"]["1:1"] for each in found]
        assert passes
        assert {one["fid"] for one in passes} == {known["version"]["fid"]}
        assert all(one["annotations"].keys() == {"mag", "detections", "days"} for one in passes)
        assert any(one["autosave"] for one in passes)
        asked = [one["followup"] for one in passes if one["followup"] is not None]
        assert {request["payload"]["priority"] for request in asked} <= {3, 4}
        assert asked


def test_the_table_of_surveys_is_what_they_declare() -> None:
    rows = re.findall(r"^\| [A-Z]+ \| `(\w+)` \| `(\w+)` \| (.*?) \| (.*?) \|$", TEXT, flags=re.MULTILINE)
    declared = {survey.alerts: survey for survey in map(surveys.get, surveys.SURVEYS)}
    assert {row[0] for row in rows} == set(declared)
    for alerts, name, histories, programs in rows:
        survey = declared[alerts]
        assert name == survey.object_id_field
        assert re.findall(r"`(\w+_\w+)`", histories) == [history.name for history in survey.histories]
        assert {f"{history.days:.0f} days" for history in survey.histories} == {histories.rpartition(": ")[2]}
        assert (programs == "–") == (survey.program_field is None)
