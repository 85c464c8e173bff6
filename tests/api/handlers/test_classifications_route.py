"""Classifications over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.archive.client import data_database
from kowalski.config import Settings

CANDID = 1105522281015015000
PATH = "/api/classifications/ztf"


@pytest.fixture(autouse=True)
def switches(archive: Settings) -> None:
    assert archive.surveys["ZTF"].classifications


async def shown(user: Any, number: int = 0) -> dict[str, Any]:
    status, answer = await user("GET", f"{PATH}/{CANDID + number}")
    assert status == 200, answer
    return dict(answer["data"])


async def test_labels_are_added_merged_and_removed(user: Any) -> None:
    status, answer = await user("PUT", PATH, {str(CANDID): {"human_labels": {"Ia": 0.8, "Ib": 0.1}}})
    assert (status, answer["message"]) == (200, "added classifications for ztf alerts")
    expected = {"candid": CANDID, "objectId": "ZTF23aaaaaa0", "human_labels": {"Ia": 0.8, "Ib": 0.1}, "ml_scores": {}}
    assert await shown(user) == expected
    await user("PUT", PATH, {str(CANDID): {"human_labels": {"Ia": 0.2, "Ic": 0.7}, "ml_scores": {"rapid": 1}}})
    found = await shown(user)
    assert (found["human_labels"], found["ml_scores"]) == ({"Ia": 0.2, "Ib": 0.1, "Ic": 0.7}, {"rapid": 1})
    status, answer = await user("DELETE", PATH, {str(CANDID): {"human_labels": ["Ia", "Ic"]}})
    assert (status, answer["message"]) == (200, "deleted classifications for ztf alerts")
    assert (await shown(user))["human_labels"] == {"Ib": 0.1}


async def test_several_alerts_get_their_own_labels_in_every_form(user: Any) -> None:
    body = {
        str(CANDID): {"human_labels": {"AGN": 0.5}},
        str(CANDID + 1): {"human_labels": ["Ia", "Ib"], "ml_scores": "rapid, parsnip"},
        str(CANDID + 2): {"ml_scores": {"rapid": 0.25}},
    }
    assert (await user("PUT", PATH, body))[0] == 200
    found = [await shown(user, number) for number in range(3)]
    assert [row["human_labels"] for row in found] == [{"AGN": 0.5}, {"Ia": 1.0, "Ib": 1.0}, {}]
    assert [row["ml_scores"] for row in found] == [{}, {"rapid": 1.0, "parsnip": 1.0}, {"rapid": 0.25}]
    assert [row["objectId"] for row in found] == ["ZTF23aaaaaa0", "ZTF23aaaaaa1", "ZTF23aaaaaa2"]
    gone = {
        str(CANDID + 1): {"human_labels": "Ia", "ml_scores": {"rapid": 0}},
        str(CANDID + 2): {"ml_scores": ["none"]},
    }
    assert (await user("DELETE", PATH, gone))[0] == 200
    found = [await shown(user, number) for number in range(3)]
    assert [row["human_labels"] for row in found] == [{"AGN": 0.5}, {"Ib": 1.0}, {}]
    assert [row["ml_scores"] for row in found] == [{}, {"parsnip": 1.0}, {"rapid": 0.25}]


async def test_what_is_refused(archive: Settings, nobody: Any, user: Any) -> None:
    good = {"human_labels": {"Ia": 1}}
    archive.surveys["PGIR"].classifications = False
    for method, path, body, status, reason in (
        ("PUT", PATH, {str(CANDID): good, "7": good}, 404, "not all alerts found in ztf collection"),
        ("PUT", PATH, {}, 400, "at least 1"),
        ("PUT", PATH, {"one": good}, 400, "one"),
        ("PUT", PATH, {str(CANDID): {}}, 400, "give human_labels or ml_scores"),
        ("PUT", PATH, {str(CANDID): {"human_labels": {"a.b": 1}}}, 400, "no dots"),
        ("PUT", PATH, {str(CANDID): {"human_labels": ["$set"]}}, 400, "no dollar sign"),
        ("PUT", PATH, {str(CANDID): {"human_labels": {"": 1}}}, 400, "human_labels"),
        ("PUT", PATH, {str(CANDID): {"ml_scores": {"a": "high"}}}, 400, "ml_scores"),
        ("PUT", PATH, {str(CANDID): {"ml_scores": {"a": True}}}, 400, "ml_scores"),
        ("DELETE", PATH, {str(CANDID): {"human_labels": ["a.b"]}}, 400, "no dots"),
        ("DELETE", PATH, {str(CANDID): {"human_labels": ["Ia"]}}, 404, "no classifications found"),
        ("GET", f"{PATH}/{CANDID}", None, 404, f"classifications for ztf alert {CANDID} not found"),
        ("GET", f"{PATH}/x", None, 400, "must be an integer"),
        ("PUT", "/api/classifications/nowhere", {str(CANDID): good}, 400, "survey nowhere must be one of"),
        ("PUT", "/api/classifications/pgir", {str(CANDID): good}, 400, "survey pgir classifications not available"),
    ):
        found, answer = await user(method, path, body)
        assert (found, answer["status"]) == (status, "error"), (path, body, answer)
        assert reason in answer["message"], (path, body, answer)
        assert (await nobody(method, path, body))[0] == 401


async def test_alerts_of_other_programs_can_not_be_classified_or_found_out(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any, admin: Any
) -> None:
    data_database(mongo, archive)["ZTF_alerts"].update_one({"candid": CANDID}, {"$set": {"candidate.programid": 2}})
    body = {str(CANDID): {"human_labels": ["Ia"]}}
    assert (await user("PUT", PATH, body))[0] == 404
    assert (await admin("PUT", PATH, body))[0] == 200
    assert (await user("GET", f"{PATH}/{CANDID}"))[0] == 404
    assert (await admin("GET", f"{PATH}/{CANDID}"))[0] == 200
    assert (await user("DELETE", PATH, body))[0] == 404
    query = {"catalog": "ZTF_alerts_classifications", "filter": {}}
    assert (await user.query("find", query))[1]["data"] == []
    assert [row["_id"] for row in (await admin.query("find", query))[1]["data"]] == [CANDID]
