"""What the tests of the system before this one asked of its API, asked again step by step.

The alerts are other ones, so counts are those of the archive here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from bson import json_util

CANDID = 1105522281015015000
EVENT = {"dateobs": "2023-06-23T15:42:26", "localization_name": "150.00000_20.00000_1.00000"}


@pytest.fixture(scope="module")
def admin(served: Any) -> Iterator[httpx.Client]:
    """As the tests did it, with ``Bearer`` before the token."""
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {served.token()}"}, timeout=30) as client:
        yield client


def ask(client: httpx.Client, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return json_util.loads(answer.text)


def query(client: httpx.Client, kind: str, what: Any, **kwargs: Any) -> Any:
    answer = ask(client, "POST", "/api/queries", {"query_type": kind, "query": what, "kwargs": kwargs})
    assert (answer["status"], answer["message"]) == ("success", "Successfully executed query")
    return answer["data"]


def test_users(admin: httpx.Client, served: Any) -> None:
    assert ask(admin, "GET", "/")["message"] == "greetings from Kowalski!"
    ask(admin, "POST", "/api/users", {"username": "noone", "password": "nopas!"})
    ask(admin, "PUT", "/api/users/noone", {"password": "nopass!!"})
    served.token("noone", "nopass!!")
    ask(admin, "PUT", "/api/users/noone", {"username": "noone_else"})
    served.token("noone_else", "nopass!!")
    ask(admin, "DELETE", "/api/users/noone_else")
    login = {"username": "noone_else", "password": "nopass!!"}
    assert ask(admin, "POST", "/api/auth", login, 401)["message"] == "Unauthorized"


def test_unauthorized(served: Any) -> None:
    body = {"query_type": "info", "query": {"command": "catalog_names"}}
    answer = httpx.post(f"{served.url}/api/queries", json=body, headers={"Authorization": "no_token"})
    assert (answer.status_code, answer.json()["message"]) == (400, "token is invalid")


def test_queries(admin: httpx.Client) -> None:
    around = {"radec": {"object1": [150.0, 20.0]}, "cone_search_radius": 2, "cone_search_unit": "arcsec"}
    catalogs = {"ZTF_alerts": {"filter": {}, "projection": {"_id": 0, "candid": 1, "objectId": 1}}}
    cone = {"object_coordinates": around, "catalogs": catalogs}
    found = query(admin, "cone_search", cone, filter_first=False)
    assert found == {"ZTF_alerts": {"object1": [{"candid": CANDID, "objectId": "ZTF23aaaaaa0"}]}}
    near = {"radec": [[150.0, 20.0]], "min_distance": 0.1, "max_distance": 30, "distance_units": "arcsec"}
    assert query(admin, "near", {**near, "catalogs": catalogs}) == {"ZTF_alerts": {"[150_0, 20_0]": []}}
    assert query(admin, "find_one", {"catalog": "ZTF_alerts", "filter": {}}, save=False)["objectId"].startswith("ZTF")
    none = {"catalog": "ZTF_alerts", "filter": {"candid": {"$lt": 0}}}
    assert query(admin, "find", {**none, "projection": {"_id": 0, "candid": 1}}, limit=1) == []
    assert query(admin, "count_documents", none) == 0
    assert query(admin, "estimated_document_count", {"catalog": "ZTF_alerts"}) == 10
    pipeline = [{"$match": {"candid": CANDID}}, {"$project": {"_id": 0, "objectId": 1}}]
    aggregate = {"catalog": "ZTF_alerts", "pipeline": pipeline}
    assert query(admin, "aggregate", aggregate, max_time_ms=2000) == [{"objectId": "ZTF23aaaaaa0"}]
    assert "ZTF_alerts" in query(admin, "info", {"command": "catalog_names"})


FILTER = {"group_id": 1, "filter_id": 1, "catalog": "ZTF_alerts", "permissions": [1, 2]}
PIPELINE = [{"$match": {"candidate.drb": {"$gt": 0.9999}}}, {"$project": {"_id": 0, "candid": 1, "objectId": 1}}]


def test_filters(admin: httpx.Client) -> None:
    text = json.dumps([{"$match": {"candidate.drb": {"$gt": 0.9999}, "objectId": "ZTF23aaaaaa0"}}])

    def change(**what: Any) -> Any:
        return ask(admin, "PATCH", "/api/filters", {"filter_id": 1, **what})["data"]

    def save(**what: Any) -> Any:
        return ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": PIPELINE, **what})["data"]["fid"]

    first = save()
    stored = ask(admin, "GET", "/api/filters/1")["data"]
    assert (stored["active_fid"], stored["autosave"], stored["auto_followup"]) == (first, False, {})
    second = save()
    assert second != first
    assert ask(admin, "GET", "/api/filters/1")["data"]["active_fid"] == second
    assert change(active_fid=first)["active_fid"] == first
    assert change(autosave=True)["autosave"] is True
    complex_save = {"active": True, "comment": "test", "ignore_group_ids": [1], "pipeline": text}
    assert change(autosave=complex_save)["autosave"] == complex_save
    followup = {
        "active": True,
        "pipeline": [{"$match": {"candidate.drb": {"$gt": 0.9999}}}],
        "allocation_id": 1,
        "payload": {"priority": 1},
        "priority_order": "desc",
    }
    stored = change(auto_followup=followup)["auto_followup"]
    assert stored == {**followup, "pipeline": json.dumps(followup["pipeline"])}
    other = {**FILTER, "filter_id": 2, "pipeline": PIPELINE, "autosave": True}
    refused = ask(admin, "POST", "/api/filters", {**other, "auto_followup": {**followup, "priority_order": "asc"}}, 400)
    assert (
        "filters with the same allocation have priority_order set to a different value, which is unexpected"
        in refused["message"]
    )
    assert change(update_annotations=True)["update_annotations"] is True
    assert change(active=False)["active"] is False
    assert ask(admin, "GET", "/api/filters/1")["data"]["active"] is False
    assert ask(admin, "DELETE", "/api/filters/1")["message"] == "Removed filter id 1"
    save(autosave=complex_save, auto_followup=followup)
    ask(admin, "DELETE", "/api/filters/1")


def test_filters_that_are_refused(admin: httpx.Client) -> None:
    wrong = [{"$matc": {"candid": 1}}]
    ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": wrong}, 400)
    joins = [{"$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "aux"}}]
    refused = ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": joins}, 400)
    assert "pipeline uses forbidden stages" in refused["message"]
    ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": PIPELINE})
    refused = ask(admin, "PATCH", "/api/filters", {"filter_id": 1, "active_fid": "somerandomfid"}, 400)
    assert "filter version fid not in filter" in refused["message"]
    ask(admin, "DELETE", "/api/filters/1")
    for method, path, body in (
        ("PATCH", "/api/filters", {"filter_id": 1, "active": True}),
        ("DELETE", "/api/filters/1", None),
    ):
        assert ask(admin, method, path, body, 400)["message"] == "Filter id 1 not found"


def test_filters_on_the_archive(admin: httpx.Client) -> None:
    def passing(status: int = 200, **where: Any) -> Any:
        answer = ask(admin, "POST", "/api/filters/1/test", where, status)
        return len(answer["data"]) if status == 200 else answer["message"]

    jd = 2460000.5
    ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": PIPELINE})
    assert passing(object_ids=["ZTF23aaaaaa4"]) == 0
    wider = [{"$match": {"candidate.drb": {"$gt": 0.5}}}]
    ask(admin, "POST", "/api/filters", {**FILTER, "pipeline": wider})
    assert passing(object_ids=["ZTF23aaaaaa4"]) == 1  # one of its alerts has 0.4, the other 0.9
    assert passing(start_date=jd + 8, end_date=jd + 9) == 2
    assert passing(start_date=jd - 5000, end_date=jd - 4999) == 0
    assert "within 1 day" in passing(400, start_date=jd, end_date=jd + 2)
    assert passing(object_ids=["ZTF23aaaaaa4"], start_date=jd, end_date=jd + 30) == 1
    assert "max_time_ms must be less than 5 minutes" in passing(400, object_ids=["ZTF23aaaaaa4"], max_time_ms=3_000_001)
    ask(admin, "DELETE", "/api/filters/1")


def test_skymaps(admin: httpx.Client) -> None:
    admin.request("DELETE", "/api/skymap", json=EVENT)
    cone = {"dateobs": EVENT["dateobs"], "skymap": {"ra": 150, "dec": 20, "error": 1}}
    saved = ask(admin, "PUT", "/api/skymap", {**cone, "contours": [90]})
    assert saved["data"]["localization_name"] == EVENT["localization_name"]
    more = ask(admin, "PUT", "/api/skymap", {**cone, "contours": [95]})
    assert more["data"]["contours"] == [90, 95]
    again = ask(admin, "PUT", "/api/skymap", {**cone, "contours": [90, 95]}, 409)
    assert (again["status"], again["message"]) == (
        "already_exists",
        "skymap already exists with the same contours",
    )
    assert ask(admin, "GET", f"/api/skymap?dateobs={EVENT['dateobs']}&contours=90")["status"] == "success"
    inside = {"skymap": {**EVENT, "contour": 90}, "catalog": "ZTF_alerts", "filter": {}, "projection": {"candid": 1}}
    found = query(admin, "skymap", inside)
    assert sorted(alert["candid"] - CANDID for alert in found) == [0, 1, 2]  # 2.15 degrees around the first
    ask(admin, "DELETE", "/api/skymap", EVENT)


def test_classifications(admin: httpx.Client) -> None:
    (alert,) = query(admin, "find", {"catalog": "ZTF_alerts", "filter": {}, "projection": {"candid": 1}}, limit=1)
    path, candid = "/api/classifications/ztf", str(alert["candid"])

    def scores() -> Any:
        return ask(admin, "GET", f"{path}/{candid}")["data"]["ml_scores"]

    ask(admin, "PUT", path, {candid: {"ml_scores": {"Ia": 0.8, "Ib": 0.1}}})
    assert scores() == {"Ia": 0.8, "Ib": 0.1}
    ask(admin, "PUT", path, {candid: {"ml_scores": {"Ia": 0.2, "Ic": 0.7}}})
    assert scores() == {"Ia": 0.2, "Ib": 0.1, "Ic": 0.7}
    ask(admin, "DELETE", path, {candid: {"ml_scores": ["Ia", "Ic"]}})
    assert scores() == {"Ib": 0.1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/api/triggers/ztf.test",
            {
                "queue_name": "ToO_test",
                "validity_window_mjd": [59000.0, 59000.1],
                "targets": [{"field_id": 600, "ra": 150.0, "dec": 20.0, "filter_id": 1, "exposure_time": 30.0}],
                "queue_type": "list",
                "user": "test",
            },
        ),
        (
            "/api/triggers/ztfmma.test",
            {
                "trigger_name": "test",
                "trigger_time": 59000.0,
                "fields": [{"field_id": 600, "probability": 0.5}],
                "user": "test",
            },
        ),
    ],
)
def test_triggers(admin: httpx.Client, path: str, body: Any) -> None:
    for method in ("PUT", "DELETE"):
        assert ask(admin, method, path, body)["status"] == "success"
