"""What docs/many-surveys.md shows runs as it stands there: one object that two surveys have seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kowalski.archive import indexes, names
from kowalski.archive.client import data_database, system_database
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import PROJECT
from kowalski.surveys import get
from kowalski.testing import simulator

TEXT = (PROJECT / "docs" / "many-surveys.md").read_text()
ZTF_NAME, RUBIN_NAME = "ZTF23abcdefg", 170028485706776685


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def rubin_packet() -> dict[str, Any]:
    made = (each.packet for each in simulator.packets(20, "LSST"))
    packet = next(each for each in made if each["diaObject"])
    packet["diaSource"] |= {"diaObjectId": RUBIN_NAME, "ra": 150.0, "dec": 20.0, "psfFlux": 500.0, "psfFluxErr": 20.0}
    packet["diaObject"] |= {"diaObjectId": RUBIN_NAME, "ra": 150.0, "dec": 20.0}
    packet["prvDiaSources"] = [{**packet["diaSource"], "diaSourceId": packet["diaSource"]["diaSourceId"] + 1}]
    return packet


def ztf_packet(jd: float, candid: int) -> dict[str, Any]:
    packet = next(iter(simulator.packets(1, "ZTF"))).packet
    packet["objectId"], packet["candid"] = ZTF_NAME, candid
    packet["candidate"] |= {"ra": 150.0, "dec": 20.0, "jd": jd, "drb": 0.99, "diffmaglim": 20.0, "programid": 1}
    return packet


@pytest.fixture(scope="module")
def both(new_archive: Any, run_api: Any) -> Iterator[Any]:
    """The API of an archive with an object of each survey at one place."""
    archive = new_archive()
    settings = archive.settings
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch.clear()
    settings.server.processes = 1
    for name in ("ZTF", "LSST"):
        indexes.ensure(data_database(archive.mongo, settings), settings, get(name))
    lsst = WorkerContext.open(settings, get("LSST"))
    packet = Packet("lsst_20231012", 0, 1, 1, simulator.writer("LSST").encode(rubin_packet()))
    assert process([packet], lsst).alerts == 1
    for api in run_api(settings):
        yield archive, api, WorkerContext.open(settings, get("ZTF")), lsst


def test_the_examples_run(both: Any) -> None:
    """The filter by the API, then an alert that it passes, then the queries."""
    archive, api, ztf, lsst = both
    (pipeline,) = map(json.loads, examples("json"))
    body = {"filter_id": 5, "group_id": 1, "catalog": "ZTF_alerts", "permissions": [1], "pipeline": pipeline}
    answer = httpx.post(f"{api.url}/api/filters", json=body, headers={"Authorization": api.token()}, timeout=30)
    assert answer.status_code == 200, answer.text
    stored = lsst.data["LSST_alerts"].find_one()
    writer, jd = simulator.writer("ZTF"), stored["candidate"]["jd"]
    # the second alert is of a month later, when Rubin's detection is no longer of the last week
    packets = [
        Packet("ztf_20231012_programid1", 0, at, 1, writer.encode(ztf_packet(jd + days, 900 + at)))
        for at, days in enumerate((1.0, 30.0))
    ]
    assert process(packets, ztf).alerts == 2
    (passed,) = system_database(archive.mongo, archive.settings)[names.OUTBOX].find()
    assert passed["_id"]["candid"] == 900
    assert passed["passes"]["1:5"]["annotations"] == {"rubin": [str(RUBIN_NAME)], "detections": 1}

    known: dict[str, Any] = {"token": api.token()}
    first, second = (each.replace("port=4000", f"port={api.settings.server.port}") for each in examples("python"))
    exec(compile(first, "docs/many-surveys.md", "exec"), known)  # the project's own text
    (found,) = known["answer"]["default"]["data"]
    assert found["_id"] == ZTF_NAME
    assert [each["_id"] for each in found["rubin"]] == [str(RUBIN_NAME)]
    assert found["rubin"][0]["prv_candidates"]
    exec(compile(second, "docs/many-surveys.md", "exec"), known)
    (other,) = known["kowalski"].query(known["query"])["default"]["data"]
    assert other["aliases"]["ZTF"] == [ZTF_NAME]


def test_documents_look_as_they_are_shown(both: Any) -> None:
    (shown,) = (block for block in examples("") if "ZTF_alerts_aux" in block)
    assert f'_id: "{ZTF_NAME}"' in shown
    assert f'aliases: {{LSST: ["{RUBIN_NAME}"]}}' in shown
    assert f'aliases: {{ZTF: ["{ZTF_NAME}"]}}' in shown
