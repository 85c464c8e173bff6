"""penquins, unmodified, against a running server."""

from __future__ import annotations

from typing import Any

import pytest
from penquins import Kowalski

CANDID = 1105522281015015000


@pytest.fixture
def kowalski(api: Any) -> Any:
    port = api.settings.server.port
    with Kowalski(
        username="admin", password="admin", protocol="http", host="127.0.0.1", port=port, timeout=20
    ) as client:
        yield client


def ask(kowalski: Any, kind: str, query: dict[str, Any], **kwargs: Any) -> Any:
    answer = kowalski.query({"query_type": kind, "query": query, "kwargs": kwargs})["default"]
    assert answer["status"] == "success", answer
    return answer.get("data")


def test_log_in_ping_and_catalogs(kowalski: Any, api: Any) -> None:
    assert kowalski.ping("default")
    assert set(kowalski.get_catalogs("default")) >= {"ZTF_alerts", "ZTF_alerts_aux", "Gaia_EDR3"}
    token = kowalski.instances["default"]["token"]
    again = Kowalski(token=token, protocol="http", host="localhost", port=api.settings.server.port)
    assert again.ping("default")
    with pytest.raises(ValueError, match="Failed to add instance"):
        Kowalski(username="admin", password="no", protocol="http", host="localhost", port=api.settings.server.port)


def test_find_keeps_candids_exact(kowalski: Any) -> None:
    found = ask(
        kowalski, "find", {"catalog": "ZTF_alerts", "filter": {"candid": CANDID + 3}, "projection": {"candid": 1}}
    )
    assert found == [{"_id": CANDID + 3, "candid": CANDID + 3}]
    (alert,) = ask(kowalski, "find", {"catalog": "ZTF_alerts", "filter": {}}, limit=1, sort=[["candid", -1]])
    assert alert["candid"] == CANDID + 9
    assert alert["cutoutScience"]["stampData"] == bytes(range(64))


def test_cone_search_over_several_catalogs(kowalski: Any) -> None:
    query = {
        "object_coordinates": {
            "radec": {"one.dot": [153.0, 20.0], "none": [10.0, -60.0]},
            "cone_search_radius": 2,
            "cone_search_unit": "arcsec",
        },
        "catalogs": {"ZTF_alerts": {"projection": {"_id": 1}}, "Gaia_EDR3": {"filter": {"mag": {"$lt": 5}}}},
    }
    found = ask(kowalski, "cone_search", query)
    assert found["ZTF_alerts"] == {"one_dot": [{"_id": CANDID + 3}], "none": []}
    assert [source["_id"] for source in found["Gaia_EDR3"]["one_dot"]] == [3]
    assert found["Gaia_EDR3"]["none"] == []


def test_near_is_sorted_by_distance(kowalski: Any) -> None:
    query = {
        "radec": "[(152.4, 20.0)]", "max_distance": 3, "distance_units": "deg", "catalogs": {"Gaia_EDR3": {}},
    }  # fmt: skip
    (found,) = ask(kowalski, "near", query)["Gaia_EDR3"].values()
    assert [source["_id"] for source in found] == [2, 3, 1, 4, 0, 5]


def test_every_other_type(kowalski: Any) -> None:
    catalog = {"catalog": "ZTF_alerts"}
    assert ask(kowalski, "count_documents", {**catalog, "filter": {"candidate.drb": {"$gt": 0.45}}}) == 5
    assert ask(kowalski, "estimated_document_count", catalog) == 10
    assert ask(kowalski, "find_one", {**catalog, "filter": {"candid": CANDID}, "projection": {"_id": 1}}) == {
        "_id": CANDID
    }
    assert ask(kowalski, "find_one", {**catalog, "filter": {"candid": 1}}) is None
    pipeline = [
        {"$match": {"candidate.drb": {"$gte": 0.8}}},
        {"$project": {"_id": 0, "text": {"$toString": "$candid"}}},
    ]
    texts = [document["text"] for document in ask(kowalski, "aggregate", {**catalog, "pipeline": pipeline})]
    assert texts == [str(CANDID + 8), str(CANDID + 9)]
    assert "objectId" in ask(kowalski, "info", {"command": "index_info", **catalog})
    assert ask(kowalski, "info", {"command": "db_info"})["ok"] == 1


def test_batches_and_several_queries(kowalski: Any) -> None:
    queries = [
        {
            "query_type": "find",
            "query": {"catalog": "ZTF_alerts", "filter": {"candid": CANDID + i}, "projection": {"_id": 1}},
        }
        for i in range(6)
    ]
    answers = kowalski.query(queries=queries, use_batch_query=True, max_n_threads=4)["default"]
    assert sorted(answer["data"][0]["_id"] for answer in answers) == [CANDID + i for i in range(6)]


def test_filters_through_api(kowalski: Any) -> None:
    filter_id = {"filter_id": 1, "group_id": 2}
    body = {
        **filter_id,
        "catalog": "ZTF_alerts",
        "permissions": [1],
        "pipeline": [{"$match": {"candidate.drb": {"$gt": 0.5}}}],
    }
    saved = kowalski.api("post", "/api/filters", data=body)
    assert saved["status"] == "success", saved
    fid = saved["data"]["fid"]
    found = kowalski.api("get", "/api/filters/1")
    assert found["message"] == "Retrieved filter id 1"
    assert (found["data"]["active_fid"], found["data"]["autosave"], found["data"]["auto_followup"]) == (fid, False, {})
    second = kowalski.api("post", "/api/filters", data=body)["data"]["fid"]
    assert second != fid
    changed = kowalski.api("patch", "/api/filters", data={"filter_id": 1, "active_fid": fid})
    assert (changed["message"], changed["data"]["active_fid"]) == ("Updated filter id 1", fid)
    wrong = kowalski.api("patch", "/api/filters", data={"filter_id": 1, "active_fid": "nobody"})
    assert wrong["status"] == "error"
    assert "filter version fid not in filter" in wrong["message"]
    assert kowalski.api("delete", "/api/filters/1")["message"] == "Removed filter id 1"
    assert kowalski.api("delete", "/api/filters/1")["message"] == "Filter id 1 not found"


def test_skymaps(kowalski: Any) -> None:
    event = {"dateobs": "2018-01-16T00:36:52", "localization_name": "90.00000_30.00000_10.00000"}
    cone = {"dateobs": event["dateobs"], "skymap": {"ra": 90, "dec": 30, "error": 10}, "contours": [90, 95]}
    kowalski.api("delete", "api/skymap", data=event)
    assert kowalski.api("get", "api/skymap", data={**event, "contour": 90})["message"] == "no skymap found"
    added = kowalski.api("put", "api/skymap", data=cone)
    assert (added["status"], added["data"]["contours"]) == ("success", [90, 95])
    assert kowalski.api("put", "api/skymap", data=cone)["status"] == "already_exists"
    found = kowalski.api("get", "api/skymap", data={**event, "contours": [90]})
    assert found["data"]["localization_name"] == event["localization_name"]
    query = {"skymap": {**event, "contour": 90}, "catalog": "ZTF_alerts", "filter": {}, "projection": {"_id": 1}}
    assert ask(kowalski, "skymap", query) == []
    query["skymap"]["contour"] = 20
    refused = kowalski.query({"query_type": "skymap", "query": query})["default"]
    assert refused["message"] == "ValueError: Contour level 20 not found in skymap"
    assert kowalski.api("delete", "api/skymap", data=event)["message"] == "deleted 1 skymap"
