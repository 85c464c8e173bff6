"""penquins, unmodified, against a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from penquins import Kowalski

from kowalski.archive.client import data_database

CANDID = 1105522281015015000


@pytest.fixture(scope="module")
def other(new_archive: Any, run_api: Any) -> Iterator[Any]:
    """A second instance, with other catalogs and one that the first has, too."""
    archive = new_archive()
    data = data_database(archive.mongo, archive.settings)
    data.create_collection("PTF_sources")
    place = {"radec_geojson": {"type": "Point", "coordinates": [-30.0, 20.0]}}
    data["Gaia_EDR3"].insert_one({"_id": 100, "mag": 1, "coordinates": place})
    archive.settings.server.processes = 1
    yield from run_api(archive.settings)


def address(api: Any, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"protocol": "http", "host": host, "port": api.settings.server.port}


@pytest.fixture(scope="module")
def kowalski(served: Any) -> Iterator[Any]:
    with Kowalski(username="admin", password="admin", **address(served), timeout=20) as client:
        yield client


@pytest.fixture
def both(served: Any, other: Any) -> Iterator[Any]:
    """A client of two instances."""
    instances = {
        "default": {"username": "admin", "password": "admin", **address(served, "localhost"), "timeout": 20},
        "test": {"token": other.token(), **address(other)},
    }
    with Kowalski(instances=instances, timeout=20) as client:
        yield client


def ask(kowalski: Any, kind: str, query: dict[str, Any], **kwargs: Any) -> Any:
    answer = kowalski.query({"query_type": kind, "query": query, "kwargs": kwargs})["default"]
    assert answer["status"] == "success", answer
    return answer.get("data")


def find(catalog: str, candid: int | None = None) -> dict[str, Any]:
    chosen = {} if candid is None else {"candid": candid}
    return {"query_type": "find", "query": {"catalog": catalog, "filter": chosen, "projection": {"_id": 1}}}


def around(*catalogs: str) -> dict[str, Any]:
    place = {"radec": {"one": [150.0, 20.0]}, "cone_search_radius": 2, "cone_search_unit": "arcsec"}
    chosen = {catalog: {"projection": {"_id": 1}} for catalog in catalogs}
    return {"query_type": "cone_search", "query": {"object_coordinates": place, "catalogs": chosen}}


# One instance


def test_log_in_ping_and_catalogs(kowalski: Any, served: Any) -> None:
    assert kowalski.ping()
    assert kowalski.ping("default")
    assert set(kowalski.get_catalogs()) >= {"ZTF_alerts", "ZTF_alerts_aux", "Gaia_EDR3"}
    assert kowalski.instance_has_catalog("ZTF_alerts")
    assert not kowalski.instance_has_catalog("users")
    again = Kowalski(token=kowalski.authenticate(), **address(served, "localhost"))
    assert again.ping("default")
    with pytest.raises(ValueError, match="Failed to add instance"):
        Kowalski(username="admin", password="no", **address(served))
    with pytest.raises(ValueError, match="Missing credentials"):
        Kowalski(**address(served))
    nobody = Kowalski(token="nonsense", **address(served))
    assert not nobody.ping()
    assert nobody.get_catalogs() == []


def test_sessions_are_renamed_and_closed(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Kowalski(username="admin", password="admin", **address(served), verbose=True) as client:
        client.rename("mine")
        assert client.ping("mine")
        assert client.query(find("ZTF_alerts", CANDID), name="mine")["mine"]["data"] == [{"_id": CANDID}]
        assert client.close() is True
        assert client.close_all() == {"mine": True}
        client.remove("mine")
        with pytest.raises(ValueError, match="does not exist"):
            client.remove("mine")
    assert "Successfully authenticated to default" in capsys.readouterr().out


def test_an_error_comes_at_once_and_with_its_text(kowalski: Any) -> None:
    """Statuses that penquins takes for a passing trouble would be asked for four times, and their text lost."""
    wrong = (
        {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {"$nonsense": 1}}},
        {"query_type": "schemas", "query": {"command": "x"}},
        {"query_type": "info", "query": {"command": "x"}},
        {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": [{"$out": "x"}]}},
        find("ZTF_alerts") | {"kwargs": {"max_time_ms": "soon"}},
    )
    for query in wrong:
        answer = kowalski.query(query, name=None if "catalog" in query["query"] else "default")["default"]
        assert answer["status"] == "error", query
        assert answer["message"]
    with pytest.raises(ValueError, match="not available"):
        kowalski.query(find("users"))
    assert kowalski.api("get", "/api/nothing")["message"] == "Not Found"
    assert kowalski.api("delete", "/api/nothing")["status"] == "error"


def test_what_clients_send_without_need_is_ignored(kowalski: Any) -> None:
    query = find("ZTF_alerts", CANDID) | {"kwargs": {"save": True, "filter_first": False}}
    query["query"]["kwargs"] = {"limit": 1}
    assert kowalski.query(query)["default"]["data"] == [{"_id": CANDID}]


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


def test_several_queries(kowalski: Any) -> None:
    queries = [find("ZTF_alerts", CANDID + i) for i in range(6)]
    assert kowalski.prepare_queries(queries) == {"default": queries}
    answers = kowalski.query(queries=queries, use_batch_query=True, max_n_threads=4)["default"]
    assert sorted(answer["data"][0]["_id"] for answer in answers) == [CANDID + i for i in range(6)]
    # one after the other, the client keeps the last answer
    assert kowalski.query(queries=queries)["default"]["data"] == [{"_id": CANDID + 5}]
    one = kowalski.query(find("ZTF_alerts", CANDID), use_batch_query=True)
    assert one["default"]["data"] == [{"_id": CANDID}]
    answers = kowalski.batch_query({"default": queries[:3]}, n_threads=2)
    assert sorted(answer["default"]["data"][0]["_id"] for answer in answers) == [CANDID, CANDID + 1, CANDID + 2]


# Two instances


def test_two_instances_are_kept_apart(both: Any, served: Any, other: Any) -> None:
    assert both.ping("default")
    assert both.ping("test")
    with pytest.raises(ValueError, match="specify instance name"):
        both.ping()
    catalogs = both.get_catalogs_all()
    assert "ZTF_alerts" in catalogs["default"]
    assert {"PTF_sources", "Gaia_EDR3"} <= set(catalogs["test"])
    assert not both.instance_has_catalog("PTF_sources", name="default")
    for name, config in (
        ("test", {"token": "x", **address(other)}),
        ("third", {"token": other.token(), **address(served, "localhost"), "username": "admin", "password": "admin"}),
    ):
        with pytest.raises(ValueError, match=r"already exists|duplicate"):
            both.add(name, config)
    both.add("third", {"token": served.token(), **address(served)})
    assert both.ping("third")
    both.rename("fourth", "third")
    both.remove("fourth")
    assert list(both.instances) == ["default", "test"]
    assert both.close("test")


def test_a_query_goes_where_its_catalog_is(both: Any) -> None:
    assert both.query(find("ZTF_alerts", CANDID))["default"]["data"] == [{"_id": CANDID}]
    assert both.query(find("PTF_sources"))["test"]["data"] == []
    assert both.query(find("Gaia_EDR3"), name="test")["test"]["data"] == [{"_id": 100}]
    with pytest.raises(ValueError, match="not available in any instance"):
        both.query(find("nothing"))
    with pytest.raises(ValueError, match="not available in the specified instance"):
        both.query(find("PTF_sources"), name="default")
    names = {"query_type": "info", "query": {"command": "catalog_names"}}
    with pytest.raises(ValueError, match="specify instance name"):
        both.query(names)
    assert "PTF_sources" in both.query(names, name="test")["test"]["data"]


def test_queries_over_two_instances(both: Any) -> None:
    queries = [find("ZTF_alerts", CANDID + 1), find("PTF_sources")]
    expected = {"default": [{"_id": CANDID + 1}], "test": []}
    answers = both.query(queries=queries)
    assert {name: answer["data"] for name, answer in answers.items()} == expected
    answers = both.query(queries=queries, use_batch_query=True)
    assert {name: [each["data"] for each in given] for name, given in answers.items()} == {
        "default": [expected["default"]], "test": [[]],
    }  # fmt: skip
    batch = both.query(queries=[find("ZTF_alerts", CANDID + i) for i in range(3)], name="default", use_batch_query=True)
    assert len(batch["default"]) == 3
    with pytest.raises(ValueError, match="not found"):
        both.query(queries=queries, name="nowhere")


def test_catalogs_of_a_cone_search_are_shared_out(both: Any) -> None:
    found = both.query(around("ZTF_alerts", "Gaia_EDR3"))
    assert found["default"]["data"] == {"ZTF_alerts": {"one": [{"_id": CANDID}]}}
    assert found["test"]["data"] == {"Gaia_EDR3": {"one": [{"_id": 100}]}}
    batch = both.query(around("ZTF_alerts", "Gaia_EDR3"), use_batch_query=True)
    assert [answer["data"] for answer in batch["test"]] == [{"Gaia_EDR3": {"one": [{"_id": 100}]}}]
    many = both.query(queries=[around("ZTF_alerts"), around("Gaia_EDR3")], use_batch_query=True)
    assert {name: len(answers) for name, answers in many.items()} == {"default": 1, "test": 1}


def test_the_api_of_a_named_instance(both: Any) -> None:
    assert both.api("get", "/", name="default")["message"] == "greetings from Kowalski!"
    body = {"filter_id": 5, "group_id": 2, "catalog": "PGIR_alerts", "permissions": [], "pipeline": [{"$match": {}}]}
    assert both.api("post", "api/filters", data=body, name="test")["status"] == "success"
    assert both.api("get", "api/filters/5", name="default")["message"] == "Filter id 5 not found"
    assert both.api("delete", "api/filters/5", name="test")["message"] == "Removed filter id 5"


def test_versions_from_many_clients_at_once_are_all_kept(kowalski: Any) -> None:
    """The server has two processes, and each client's session connections of its own."""
    match = {"$match": {"candidate.drb": {"$gt": 0.5}}}
    body = {"filter_id": 9, "group_id": 2, "catalog": "ZTF_alerts", "permissions": [1]}

    def post(number: int) -> str:
        pipeline = [match, {"$addFields": {"annotations.number": number}}]
        return str(kowalski.api("post", "/api/filters", data={**body, "pipeline": pipeline})["data"]["fid"])

    with ThreadPoolExecutor(8) as threads:
        fids = list(threads.map(post, range(24)))
    stored = kowalski.api("get", "/api/filters/9")["data"]
    assert sorted(version["fid"] for version in stored["fv"]) == sorted(fids)
    assert stored["active_fid"] == stored["fv"][-1]["fid"]
    numbers = [json.loads(version["pipeline"])[1]["$addFields"]["annotations.number"] for version in stored["fv"]]
    assert sorted(numbers) == list(range(24))
    kowalski.api("delete", "/api/filters/9")


def test_a_filter_is_tested_and_run_dry(kowalski: Any) -> None:
    body = {"filter_id": 3, "group_id": 2, "catalog": "ZTF_alerts", "permissions": [1]}
    kowalski.api("post", "/api/filters", data={**body, "pipeline": [{"$match": {"candidate.drb": {"$gt": 0.45}}}]})
    found = kowalski.api("post", "/api/filters/3/test", data={"object_ids": ["ZTF23aaaaaa0", "ZTF23aaaaaa1"]})
    assert sorted(alert["candid"] for alert in found["data"]) == [CANDID + 5, CANDID + 6]
    found = kowalski.api("post", "/api/filters/3/test", data={"start_date": 2460000.5, "end_date": 2460002.5})
    assert "within 1 day" in found["message"]
    report = kowalski.api("post", "/api/filters/3/dryrun", data={"start_date": 2460009.0, "end_date": 2460010.0})
    assert (report["data"]["examined"], report["data"]["passed"]) == (1, 1)
    assert kowalski.api("get", "/api/filters/3/statistics")["data"]["versions"] == []
    kowalski.api("delete", "/api/filters/3")


def test_localizations_through_api(kowalski: Any) -> None:
    event = {"dateobs": "2023-06-23T15:42:26", "localization_name": "90.00000_30.00000_10.00000"}
    put = {"dateobs": event["dateobs"], "skymap": {"ra": 153.0, "dec": 20.0, "error": 0.3}, "contours": [90, 95]}
    event["localization_name"] = kowalski.api("put", "api/skymap", data=put)["data"]["localization_name"]
    assert kowalski.api("put", "api/skymap", data=put)["status"] == "already_exists"
    assert (
        kowalski.api("get", "api/skymap", data={"dateobs": event["dateobs"], "contours": [90]})["status"] == "success"
    )
    query = {"skymap": {**event, "contour": 90}, "catalog": "ZTF_alerts", "filter": {}, "projection": {"_id": 1}}
    assert ask(kowalski, "skymap", query) == [{"_id": CANDID + 3}]
    query["skymap"]["contour"] = 20
    answer = kowalski.query({"query_type": "skymap", "query": query})["default"]
    assert answer["message"] == "ValueError: Contour level 20 not found in skymap"
    assert kowalski.api("delete", "api/skymap", data=event)["status"] == "success"


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
