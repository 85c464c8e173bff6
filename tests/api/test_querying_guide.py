"""The guide for users does what it says: every example runs against an archive of simulated alerts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kowalski.api.queries import QUERY_TYPES
from kowalski.archive import indexes
from kowalski.archive.client import data_database
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import PROJECT
from kowalski.surveys import get
from kowalski.testing import simulator

TEXT = (PROJECT / "docs" / "querying.md").read_text()
ALERTS = 60


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def night(new_archive: Any, run_api: Any) -> Iterator[Any]:
    """The API of an archive with a night of simulated alerts, taken in as the broker does, each with a star beneath."""
    archive = new_archive()
    settings = archive.settings
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    data = data_database(archive.mongo, settings)
    indexes.ensure(data, settings, get("ZTF"))
    writer = simulator.writer("ZTF")
    made = [each.packet for each in simulator.packets(ALERTS, "ZTF", seed=3)]
    context = WorkerContext.open(settings, get("ZTF"))
    packets = [Packet("ztf_20231012_programid1", 0, at, 1, writer.encode(packet)) for at, packet in enumerate(made)]
    assert process(packets, context).alerts == ALERTS
    context.data.client.close()
    stars = data[get("ZTF").alerts].find({}, {"coordinates": 1})
    data["Gaia_EDR3"].insert_many([{"coordinates": star["coordinates"]} for star in stars])
    data.create_collection("leftovers")
    settings.server.processes = 1
    yield from run_api(settings)


def test_every_type_of_query_has_an_example() -> None:
    code = "\n".join(examples("python"))
    assert {kind for kind in QUERY_TYPES if f'"{kind}"' in code} == set(QUERY_TYPES)


def test_the_examples_in_python_run_from_top_to_bottom(night: Any) -> None:
    known: dict[str, Any] = {}
    for example in examples("python"):
        here = example.replace("port=4000", f"port={night.settings.server.port}")
        exec(compile(here, "docs/querying.md", "exec"), known)  # the project's own text
    assert known["alert"]["candidate"]["drb"] > 0.5
    assert known["alert"]["candid"] in [int(each["candid"]) for each in known["detections"]]
    assert 0 < known["bright"] < known["stored"] == ALERTS
    assert known["curve"]["points"]
    assert sum(each["alerts"] for each in known["per_field"]) == ALERTS
    by_name = {name: found[known["alert"]["objectId"]] for name, found in known["found"].items()}
    assert known["alert"]["candid"] in {each["candid"] for each in by_name["ZTF_alerts"]}
    assert by_name["Gaia_EDR3"]
    assert known["found"]["Gaia_EDR3"]["elsewhere"] == []
    assert known["nearest"][0]["objectId"] == known["alert"]["objectId"]
    assert known["alert"]["candid"] in {each["match"]["_id"] for each in known["pairs"]}
    assert {each["id"] for each in known["pairs"]} == {"mine"}
    assert known["alert"]["candid"] in {each["_id"] for each in known["inside"]}
    assert len(known["inside"]) < ALERTS
    assert known["picture"].content.startswith(b"\x89PNG")
    assert known["fits_file"].startswith(b"SIMPLE")
    assert known["labels"] == {"Ia": 0.8, "Ib": 0.1}
    assert known["lines"] == known["table"].num_rows == len(known["rows"]) == ALERTS
    assert known["rows"][0].keys() >= {"objectId", "candidate.magpsf"}
    assert all(answer["data"] for answer in known["answers"])


def test_dropping_a_catalog_as_the_guide_says(night: Any) -> None:
    known: dict[str, Any] = {}
    for example in examples("python")[:2]:
        exec(compile(example.replace("port=4000", f"port={night.settings.server.port}"), "", "exec"), known)
    (example,) = (each for each in examples("python") if "def drop" in each)
    exec(compile(example, "", "exec"), known)
    assert known["drop"]("leftovers") is None
    assert "leftovers" not in known["kowalski"].get_catalogs()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_example_for_the_shell_runs(night: Any) -> None:
    (example,) = examples("sh")
    here = example.replace("localhost:4000", f"127.0.0.1:{night.settings.server.port}")
    done = subprocess.run(["bash", "-euc", here], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("_id,")
    assert len(done.stdout.splitlines()) == 11
