"""kill -9 of each part in the middle of 500 alerts: afterwards all are there, complete, and nothing is there twice."""

from __future__ import annotations

import csv
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from kowalski.archive import names
from kowalski.archive.client import connect, data_database, system_database
from kowalski.broker.avro import Decoder
from kowalski.surveys import SURVEYS, Survey, get
from kowalski.testing import instance as instances

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

N = 500
RATE = 150
CASES = (
    ("worker-0", "ZTF"),
    ("scheduler", "PGIR"),
    ("broker-wntr", "WNTR"),
    ("mongod", "LSST"),
    ("kafka", "TURBO"),
    ("courier", "ZTF"),
)
"""Who is killed, while alerts of which survey flow."""
FILTERS = {name: 77 + number for number, name in enumerate(SURVEYS)}
EVERY_TENTH = [
    {"$match": {"$expr": {"$eq": [{"$mod": ["$candid", 10]}, 5]}}},
    {"$project": {"annotations": {"mag": "$candidate.magpsf"}}},
]


@pytest.fixture(scope="module")
def client(kowalski: instances.Instance) -> Any:
    with connect(kowalski.settings) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def prepared(kowalski: instances.Instance, client: Any) -> None:
    """A filter per survey that passes a tenth of its alerts, and an empty catalog that objects are matched with."""
    import httpx

    kowalski.wait_until_well()
    login = {"username": "admin", "password": "admin"}
    token = httpx.post(f"{kowalski.url}/api/auth", json=login).json()["token"]
    for name, number in FILTERS.items():
        body = {"filter_id": number, "group_id": 2, "catalog": get(name).alerts, "permissions": [1, 2, 3]}
        body["pipeline"] = EVERY_TENTH
        answer = httpx.post(f"{kowalski.url}/api/filters", json=body, headers={"Authorization": token}, timeout=30)
        assert answer.status_code == 200, answer.text
    gaia = data_database(client, kowalski.settings)["Gaia_EDR3"]
    gaia.create_index([("coordinates.radec_geojson", "2dsphere")])
    for worker in ("worker-0", "worker-1"):  # they look for new catalogs when they start, then every minute
        kowalski.cli("restart", worker)
    kowalski.wait_until_well()


def stream(kowalski: instances.Instance, topic: str, folder: Path) -> threading.Thread:
    """Send a folder at a pace, in the background; what Kafka did not take while it was away is sent again."""

    def send() -> None:
        while kowalski.cli(
            "stream", "--topic", topic, "--path", str(folder), "--rate", str(RATE), check=False
        ).returncode:
            time.sleep(1)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize(("victim", "name"), CASES)
def test_nothing_is_lost_or_doubled(
    kowalski: instances.Instance, skyportal: Any, client: Any, victim: str, name: str, tmp_path: Path
) -> None:
    number, survey = CASES.index((victim, name)), get(name)
    night, folder = date(2024, 4, number + 1), tmp_path / "night"
    options = ("--survey", name, "--n", str(N), "--seed", str(100 + number), "--obsdate", f"{night:%Y%m%d}")
    kowalski.cli("simulate", *options, "--out", str(folder))
    truth = {int(row["candid"]): row["objectId"] for row in csv.DictReader((folder / "truth.csv").open())}
    assert len(truth) == N
    data = data_database(client, kowalski.settings)
    alerts, system = data[survey.alerts], system_database(client, kowalski.settings)
    alerts.delete_many({})  # some surveys number the alerts of each night from 0
    system[names.OUTBOX].delete_many({"_id.survey": name})
    mine = {"_id": {"$in": list(truth)}}

    def stored() -> int:
        try:
            return alerts.count_documents(mine)
        except PyMongoError:  # mongod is the victim
            return 0

    kowalski.wait_until_well()
    sender = stream(kowalski, survey.topic_of(night), folder)
    kowalski.wait(lambda: stored() > N // 5, "the night does not start")
    killed = kowalski.kill(victim)
    sender.join()
    kowalski.wait_until_well()
    assert kowalski.pid(victim) != killed
    kowalski.wait(lambda: stored() == N, "alerts are missing")
    kowalski.wait(lambda: not any(kowalski.status()["lag"][name].values()), "offsets are not committed")
    matched = {"Gaia_EDR3"} & set(kowalski.settings.database.xmatch.get(name, {}))
    check_documents(data, survey, truth, folder, matched)
    expected = {candid for candid in truth if candid % 10 == 5}
    key = {"_id.survey": name, "_id.candid": {"$in": list(truth)}, f"passes.2:{FILTERS[name]}": {"$exists": True}}
    assert {found["_id"]["candid"] for found in system[names.OUTBOX].find(key)} == expected
    assert system[names.DEAD_LETTERS].count_documents({"_id.topic": survey.topic_of(night)}) == 0
    check_skyportal(kowalski, skyportal, FILTERS[name], expected)


def check_documents(data: Any, survey: Survey, truth: dict[int, str], folder: Path, matched: set[str]) -> None:
    """Compare the archive with the packets themselves."""
    decoder = Decoder()
    (key,) = [kept.key for kept in survey.histories if kept.name == "prv_candidates"]
    history: dict[str, set[tuple[Any, ...]]] = {}
    for path in folder.glob("*.avro"):
        (record,) = decoder.records(path.read_bytes())
        alert = survey.shape(record)
        history.setdefault(alert.object_id, set()).update(
            tuple(row.get(field) for field in key) for row in alert.histories["prv_candidates"]
        )
    stored = {
        alert["_id"]: alert
        for alert in data[survey.alerts].find({"_id": {"$in": list(truth)}}, dict.fromkeys(survey.stamp_fields, 0))
    }
    assert {candid: alert[survey.object_id_field] for candid, alert in stored.items()} == truth
    models = Counter(name for alert in stored.values() for name in alert["classifications"])
    assert len(set(models.values())) <= 2, models  # every alert was scored by the same models, stamps permitting
    objects = {known["_id"]: known for known in data[survey.objects].find({"_id": {"$in": list(history)}})}
    for name, keys in history.items():
        rows = [tuple(row.get(field) for field in key) for row in objects[name]["prv_candidates"]]
        assert set(rows) == keys
        assert len(rows) == len(keys)
        assert matched <= objects[name]["cross_matches"].keys()


def check_skyportal(kowalski: instances.Instance, skyportal: Any, filter_id: int, expected: set[int]) -> None:
    """Each pass is there, once."""

    def posted() -> Counter[int]:
        found = (each for each in skyportal.state()["candidates"] if each["filter_id"] == filter_id)
        return Counter(each["passing_alert_id"] for each in found if each["passing_alert_id"] in expected)

    kowalski.wait(lambda: set(posted()) == expected, "passes are missing at SkyPortal")
    assert posted() == dict.fromkeys(expected, 1)
    kowalski.wait(lambda: kowalski.status()["outbox"]["pending"] == 0, "the outbox is not empty")
    assert kowalski.status()["outbox"]["failed"] == 0
