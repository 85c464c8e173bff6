"""A night of simulated alerts of each survey through the whole system: Kafka to SkyPortal, with penquins on top."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from penquins import Kowalski

from kowalski import surveys
from kowalski.broker.avro import Decoder
from kowalski.surveys import Survey
from kowalski.surveys.base import Alert
from kowalski.testing import instance as instances
from kowalski.testing.simulator.places import julian_date

NIGHT = date(2024, 3, 1)
N = 24
EVERYTHING = [{"$match": {"candid": {"$gte": 0}}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]
AUTOSAVE = {"active": True, "comment": "of this night"}
FOLLOWUP = {
    "active": True,
    "allocation_id": 3,
    "payload": {"observation_type": "IFU", "priority": 1},
    "pipeline": [{"$match": {"candidate.magpsf": {"$gt": 0}}}, {"$set": {"payload.priority": 4, "comment": "IFU"}}],
    "radius": 0.1,
}


@pytest.fixture(scope="module")
def client(kowalski: instances.Instance) -> Kowalski:
    kowalski.wait_until_well()
    port = kowalski.settings.server.port
    return Kowalski(username="admin", password="admin", protocol="http", host="127.0.0.1", port=port, timeout=30)


def ask(client: Kowalski, kind: str, **query: Any) -> Any:
    answer = client.query({"query_type": kind, "query": query})["default"]
    assert answer["status"] == "success", answer
    return answer["data"]


def shaped(survey: Survey, folder: Path) -> dict[int, Alert]:
    decoder = Decoder()
    records = [record for file in folder.glob("*.avro") for record in decoder.records(file.read_bytes())]
    return {alert.candid: alert for alert in map(survey.shape, records)}


@pytest.mark.parametrize("survey", surveys.SURVEYS.values(), ids=lambda survey: survey.name)
def test_a_night(
    kowalski: instances.Instance, skyportal: Any, client: Kowalski, survey: Survey, tmp_path: Path
) -> None:
    number = 41 + list(surveys.SURVEYS).index(survey.name)
    body = {"filter_id": number, "group_id": 1, "catalog": survey.alerts, "permissions": [1, 2, 3]}
    body |= {"pipeline": EVERYTHING, "autosave": AUTOSAVE, "auto_followup": FOLLOWUP}
    assert client.api("post", "/api/filters", data=body)["status"] == "success"

    folder, topic = tmp_path / "night", survey.topic_of(NIGHT)
    options = ("--survey", survey.name.lower(), "--n", str(N), "--seed", str(number), "--obsdate", f"{NIGHT:%Y%m%d}")
    kowalski.cli("simulate", *options, "--out", str(folder))
    sent = shaped(survey, folder)
    truth = {int(row["candid"]): row["objectId"] for row in csv.DictReader((folder / "truth.csv").open())}
    assert truth == {candid: alert.object_id for candid, alert in sent.items()}
    assert len(truth) == N
    (folder / "damaged.avro").write_bytes(b"Obj\x01 not really")
    kowalski.cli("stream", "--topic", topic, "--path", str(folder), "--rate", "200/s")

    mine = {"candid": {"$in": list(truth)}}
    count = {"catalog": survey.alerts, "filter": mine}
    kowalski.wait(lambda: ask(client, "count_documents", **count) == N, "not all alerts are stored")
    kowalski.wait(lambda: not any(kowalski.status()["lag"][survey.name].values()), "offsets are not committed")
    assert topic in kowalski.cli("deadletters", "list", "--survey", survey.name).stdout
    check_queries(client, survey, truth, mine)
    check_skyportal(kowalski, skyportal, number, survey, sent)
    kowalski.wait(lambda: min(counted(client, number)) >= N, "what passes is not counted")
    assert client.api("delete", f"/api/filters/{number}")["status"] == "success"


def counted(client: Kowalski, number: int) -> tuple[int, int]:
    """Alerts and passes of a filter with one version, as the workers have written them down."""
    versions = client.api("get", f"/api/filters/{number}/statistics")["data"]["versions"]
    assert not any(each["errors"] for each in versions)
    return sum(each["alerts"] for each in versions), sum(each["passes"] for each in versions)


def check_queries(client: Kowalski, survey: Survey, truth: dict[int, str], mine: dict[str, Any]) -> None:
    """Find the alerts by their identifiers, their positions and their objects."""
    name = survey.object_id_field
    shown = {name: 1, "candidate.jd": 1, "coordinates.radec_geojson": 1}
    found = ask(client, "find", catalog=survey.alerts, filter=mine, projection=shown)
    assert {alert["_id"]: alert[name] for alert in found} == truth
    start = julian_date(NIGHT)
    assert all(start < alert["candidate"]["jd"] < start + 1.0 for alert in found)
    some = found[0]
    ra, dec = some["coordinates"]["radec_geojson"]["coordinates"]
    cone = {"radec": {"it": [ra + 180.0, dec]}, "cone_search_radius": 2, "cone_search_unit": "arcsec"}
    near = ask(client, "cone_search", object_coordinates=cone, catalogs={survey.alerts: {"projection": {"_id": 1}}})
    assert {"_id": some["_id"]} in near[survey.alerts]["it"]
    objects = ask(client, "find", catalog=survey.objects, filter={"_id": {"$in": list(truth.values())}})
    assert {each["_id"] for each in objects} == set(truth.values())
    assert all(survey.light_curve[0] in each for each in objects)


def check_skyportal(
    kowalski: instances.Instance, skyportal: Any, number: int, survey: Survey, sent: dict[int, Alert]
) -> None:
    """Each pass is there once, with the object's light curve and pictures."""

    def posted() -> Counter[int]:
        mine = [each for each in skyportal.state()["candidates"] if each["filter_id"] == number]
        return Counter(each["passing_alert_id"] for each in mine if each["passing_alert_id"] in sent)

    kowalski.wait(lambda: set(posted()) == set(sent), "not every pass is at SkyPortal")
    kowalski.wait(lambda: kowalski.status()["outbox"]["pending"] == 0, "the outbox is not empty")
    assert kowalski.status()["outbox"]["failed"] == 0
    assert posted() == dict.fromkeys(sent, 1)
    state = skyportal.state()
    check_followup(state, {alert.object_id for alert in sent.values()})
    points = Counter(point["obj_id"] for point in state["photometry"])
    pictures = Counter(key.split("|")[0] for key in state["thumbnails"])
    for alert in sent.values():
        rows = [alert.document["candidate"], *alert.histories[survey.light_curve[0]]]
        assert points[alert.object_id] >= len(survey.alert_curve(rows))
        assert pictures[alert.object_id] == 3
    assert bool(sum(points[alert.object_id] for alert in sent.values())) == any(
        len(survey.alert_curve([alert.document["candidate"]])) for alert in sent.values()
    )


def check_followup(state: dict[str, Any], objects: set[str]) -> None:
    """Each object is saved, commented on and asked to be followed up, once."""
    assert {key for key in state["sources"] if key.partition("|")[0] in objects} == {f"{name}|1" for name in objects}
    said = Counter((each["obj_id"], each["text"]) for each in state["comments"] if each["obj_id"] in objects)
    assert said == {(name, text): 1 for name in objects for text in ("of this night", "IFU (priority: 4)")}
    asked = [each["obj_id"] for each in state["followups"] if each["allocation_id"] == 3]
    assert {name: asked.count(name) for name in objects} == dict.fromkeys(objects, 1)


def test_the_api_documents_itself(kowalski: instances.Instance) -> None:
    assert httpx.get(f"{kowalski.url}/docs/api/").status_code == 200
