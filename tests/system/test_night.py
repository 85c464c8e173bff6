"""A night of simulated alerts through the whole system: Kafka to SkyPortal, with penquins on top."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from penquins import Kowalski

from kowalski.testing import instance as instances

N = 60
EVERYTHING = [{"$match": {"candid": {"$gt": 0}}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]

AUTOSAVE = {"active": True, "comment": "of this night"}
FOLLOWUP = {
    "active": True,
    "allocation_id": 3,
    "payload": {"observation_type": "IFU", "priority": 1},
    "pipeline": [{"$match": {"candidate.magpsf": {"$gt": 0}}}, {"$set": {"payload.priority": 4, "comment": "IFU"}}],
    "radius": 0.1,
}


def test_a_night(kowalski: instances.Instance, skyportal: Any, tmp_path: Path) -> None:
    kowalski.wait_until_well()
    port = kowalski.settings.server.port
    client = Kowalski(username="admin", password="admin", protocol="http", host="127.0.0.1", port=port, timeout=30)
    body = {"filter_id": 41, "group_id": 1, "catalog": "ZTF_alerts", "permissions": [1, 2, 3], "pipeline": EVERYTHING}
    body |= {"autosave": AUTOSAVE, "auto_followup": FOLLOWUP}
    assert client.api("post", "/api/filters", data=body)["status"] == "success"

    night = tmp_path / "night"
    kowalski.cli(
        "simulate", "--survey", "ztf", "--n", str(N), "--seed", "7", "--obsdate", "20240301", "--out", str(night)
    )
    (night / "damaged.avro").write_bytes(b"Obj\x01 not really")
    kowalski.cli("stream", "--topic", "ztf_20240301_programid1", "--path", str(night), "--rate", "200/s")

    truth = {int(row["candid"]): row["objectId"] for row in csv.DictReader((night / "truth.csv").open())}
    assert len(truth) == N
    count = {
        "query_type": "count_documents",
        "query": {"catalog": "ZTF_alerts", "filter": {"candid": {"$in": list(truth)}}},
    }
    kowalski.wait(lambda: client.query(count)["default"]["data"] == N, "not all alerts are stored")
    kowalski.wait(lambda: not any(kowalski.status()["lag"]["ZTF"].values()), "offsets are not committed")

    find = {
        "query_type": "find",
        "query": {
            "catalog": "ZTF_alerts",
            "filter": {},
            "projection": {"objectId": 1, "candidate.ra": 1, "candidate.dec": 1},
        },
    }
    found = {alert["_id"]: alert for alert in client.query(find)["default"]["data"]}
    assert {candid: alert["objectId"] for candid, alert in found.items() if candid in truth} == truth
    some = next(alert for candid, alert in found.items() if candid in truth)
    cone = {
        "query_type": "cone_search",
        "query": {
            "object_coordinates": {
                "radec": {"it": [some["candidate"]["ra"], some["candidate"]["dec"]]},
                "cone_search_radius": 2,
                "cone_search_unit": "arcsec",
            },
            "catalogs": {"ZTF_alerts": {"projection": {"_id": 1}}},
        },
    }
    assert {"_id": some["_id"]} in client.query(cone)["default"]["data"]["ZTF_alerts"]["it"]

    letters = kowalski.cli("deadletters", "list").stdout
    assert "ztf_20240301_programid1" in letters

    def delivered() -> bool:
        posted = skyportal.state()["candidates"]
        return {candidate["passing_alert_id"] for candidate in posted} >= set(truth)

    kowalski.wait(delivered, "not every pass is at SkyPortal")
    posted = [c for c in skyportal.state()["candidates"] if c["passing_alert_id"] in truth]
    keys = [(candidate["passing_alert_id"], candidate["filter_id"]) for candidate in posted]
    assert len(keys) == len(set(keys))
    kowalski.wait(lambda: kowalski.status()["outbox"]["pending"] == 0, "the outbox is not empty")
    state = skyportal.state()
    objects = set(truth.values())
    assert {key for key in state["sources"] if key.partition("|")[0] in objects} == {f"{name}|1" for name in objects}
    said = Counter((each["obj_id"], each["text"]) for each in state["comments"] if each["obj_id"] in objects)
    assert said == {(name, text): 1 for name in objects for text in ("of this night", "IFU (priority: 4)")}
    asked = Counter(each["obj_id"] for each in state["followups"] if each["allocation_id"] == 3)
    assert asked == dict.fromkeys(objects, 1)
    assert httpx.get(f"{kowalski.url}/docs/api/").status_code == 200
    assert client.api("delete", "/api/filters/41")["status"] == "success"
