"""What a user's program ids let through, in every type of query and by every way that leads to a collection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.api import guards
from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.surveys import get

ALERTS, OBJECTS = {"catalog": "ZTF_alerts"}, {"catalog": "ZTF_alerts_aux"}
FOREIGN = 777_777
"""Stands in every document and row that a public user must not see."""
EVERYWHERE = {"object_coordinates": {"radec": {"a": [150, 20]}, "cone_search_radius": 2, "cone_search_unit": "deg"}}


def alert(number: int, program: int) -> dict[str, Any]:
    position = {"type": "Point", "coordinates": [150.0 + number / 100 - 180.0, 20.0]}
    return {
        "_id": number,
        "candid": number,
        "objectId": f"ZTF{number % 3}",
        "candidate": {"programid": program, "jd": 2460000.5 + number, "field": 1 if program == 1 else FOREIGN},
        "text": "7" if program == 1 else f"secret{FOREIGN}",
        "coordinates": {"radec_geojson": position},
    }


def row(number: int, program: int) -> dict[str, Any]:
    return {"jd": 2460000.5 + number, "programid": program, "mag": number if program == 1 else FOREIGN}


@pytest.fixture
def archive(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Settings:
    """Nine alerts of three programs, three objects of which one is nobody's, and a catalog that leads to them."""
    data = data_database(mongo, settings)
    data["ZTF_alerts"].insert_many([alert(number, number // 3 + 1) for number in range(9)])
    data["ZTF_alerts"].create_index([("coordinates.radec_geojson", "2dsphere")])
    rows = [row(number, number % 3 + 1) for number in range(6)]
    data["ZTF_alerts_aux"].insert_many(
        [
            {"_id": "ZTF0", "prv_candidates": rows, "fp_hists": rows[1:3], "cross_matches": {"Gaia": [{"mag": 1}]}},
            {"_id": "ZTF1", "prv_candidates": rows[3:4], "cross_matches": {}},
            {"_id": "ZTF2", "prv_candidates": rows[1:3], "fp_hists": rows[1:2], "cross_matches": {"near": FOREIGN}},
        ]
    )
    data["names"].insert_many([{"_id": n, "name": f"ZTF{n}", "candid": n} for n in range(9)])
    data.command("create", "all_alerts", viewOn="ZTF_alerts", pipeline=[])
    data.command("create", "joined", viewOn="names", pipeline=[{"$unionWith": "all_alerts"}])
    data.command("create", "bright", viewOn="names", pipeline=[{"$match": {"_id": {"$lt": 2}}}])
    return settings


async def ask(user: Any, kind: str, query: dict[str, Any], **kwargs: Any) -> Any:
    status, answer = await user.query(kind, query, **kwargs)
    assert status == 200, answer
    return answer.get("data")


async def ids(user: Any, kind: str, query: dict[str, Any], **kwargs: Any) -> list[Any]:
    return [document["_id"] for document in await ask(user, kind, query, **kwargs)]


async def test_find_and_counts_see_the_users_programs(user: Any, admin: Any) -> None:
    everything = {**ALERTS, "filter": {}}
    assert await ids(user, "find", everything) == [0, 1, 2]
    assert await ids(user, "find", everything, sort=[["candid", -1]], skip=1, limit=1) == [1]
    assert await ids(user, "find", {**ALERTS, "filter": {"candidate.programid": {"$gt": 1}}}) == []
    assert (await ask(user, "find_one", {**ALERTS, "filter": {"_id": 8}})) is None
    assert await ask(user, "count_documents", everything) == 3
    assert await ask(user, "estimated_document_count", ALERTS) == 3
    assert (await ask(user, "info", {"command": "catalog_info", **ALERTS}))["count"] == 3
    assert not {"objects", "dataSize"} & (await ask(user, "info", {"command": "db_info"})).keys()
    assert await ids(admin, "find", everything) == list(range(9))
    assert await ask(admin, "estimated_document_count", ALERTS) == 9
    assert (await ask(admin, "info", {"command": "catalog_info", **ALERTS}))["count"] == 9
    assert (await ask(admin, "info", {"command": "db_info"}))["objects"] > 9


async def test_cone_search_and_near_see_the_users_programs(user: Any, admin: Any) -> None:
    cone = {**EVERYWHERE, "catalogs": {"ZTF_alerts": {}}}
    near = {"radec": {"a": [150, 20]}, "catalogs": {"ZTF_alerts": {}}, "max_distance": 2, "distance_units": "deg"}
    for kind, query in (("cone_search", cone), ("near", near)):
        for asker, count in ((user, 3), (admin, 9)):
            found = (await ask(asker, kind, query))["ZTF_alerts"]["a"]
            assert sorted(document["_id"] for document in found) == list(range(count)), kind


async def test_rows_of_other_programs_are_not_in_an_object(user: Any, admin: Any) -> None:
    one = {**OBJECTS, "filter": {"_id": "ZTF0"}}
    for found in (await ask(user, "find_one", one), (await ask(user, "find", one))[0]):
        assert [row["mag"] for row in found["prv_candidates"]] == [0, 3]
        assert (found["fp_hists"], found["cross_matches"]) == ([], {"Gaia": [{"mag": 1}]})
    found = await ask(admin, "find_one", one)
    assert (len(found["prv_candidates"]), len(found["fp_hists"])) == (6, 2)
    assert "fp_hists" not in await ask(user, "find_one", {**OBJECTS, "filter": {"_id": "ZTF1"}})


async def test_an_object_of_other_programs_is_not_there(user: Any, admin: Any) -> None:
    for kind, query in (("find", {"filter": {}}), ("aggregate", {"pipeline": [{"$sort": {"_id": 1}}]})):
        assert sorted(await ids(user, kind, {**OBJECTS, **query})) == ["ZTF0", "ZTF1"]
        assert len(await ids(admin, kind, {**OBJECTS, **query})) == 3
    assert await ask(user, "count_documents", {**OBJECTS, "filter": {"_id": "ZTF2"}}) == 0
    assert await ask(user, "estimated_document_count", OBJECTS) == 2


async def test_near_finds_objects(archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any) -> None:
    place = {"radec_geojson": {"type": "Point", "coordinates": [-30.0, 20.0]}}
    data_database(mongo, archive)["ZTF_alerts_aux"].update_many({}, {"$set": {"coordinates": place}})
    query = {"radec": {"a": [150, 20]}, "catalogs": {"ZTF_alerts_aux": {"filter": {"prv_candidates.mag": 3}}}}
    found = (await ask(user, "near", query))["ZTF_alerts_aux"]["a"]
    assert sorted(document["_id"] for document in found) == ["ZTF0", "ZTF1"]
    assert str(FOREIGN) not in json.dumps(found)


async def test_conditions_on_rows_see_the_users_rows(user: Any) -> None:
    foreign = {"prv_candidates.mag": FOREIGN}
    assert await ask(user, "count_documents", {**OBJECTS, "filter": foreign}) == 0
    assert await ask(user, "find", {**OBJECTS, "filter": {"$nor": [{"$nor": [foreign]}]}}) == []
    assert await ids(user, "find", {**OBJECTS, "filter": {"prv_candidates": {"$size": 2}}}) == ["ZTF0"]
    # Sorted by their own rows ZTF1 (3) comes first; by all rows ZTF0 would, as it holds the largest.
    options = {"sort": [["prv_candidates.mag", -1], ["_id", -1]]}
    assert await ids(user, "find", {**OBJECTS, "filter": {}}, **options) == ["ZTF1", "ZTF0"]
    assert await ids(user, "find", {**OBJECTS, "filter": {}}, sort=[["$natural", -1]]) == ["ZTF1", "ZTF0"]


async def test_projections_of_objects(user: Any) -> None:
    def query(projection: Any) -> dict[str, Any]:
        return {**OBJECTS, "filter": {"_id": "ZTF0"}, "projection": projection}

    assert await ask(user, "find_one", query(["fp_hists"])) == {"_id": "ZTF0", "fp_hists": []}
    assert await ask(user, "find_one", query({"n": {"$size": "$prv_candidates"}, "_id": 0})) == {"n": 2}
    (last,) = (await ask(user, "find_one", query({"prv_candidates": {"$slice": -1}, "_id": 1})))["prv_candidates"]
    assert last["mag"] == 3
    sliced = await ask(user, "find_one", query({"prv_candidates": {"$slice": [1, 5]}, "cross_matches": 0}))
    assert ({"fp_hists", "_id"} <= sliced.keys(), [row["mag"] for row in sliced["prv_candidates"]]) == (True, [3])
    for projection in ({"prv_candidates": {"$elemMatch": {"mag": 3}}}, {"prv_candidates.$": 1}):
        status, answer = await user.query("find_one", query(projection))
        assert (status, "use $filter" in answer["message"]) == (400, True)


LOOKUP = {"from": "ZTF_alerts", "localField": "candid", "foreignField": "candid", "as": "found"}
AUX = {"from": "ZTF_alerts_aux", "localField": "name", "foreignField": "_id", "as": "found"}
INNER = {"from": "ZTF_alerts", "let": {"c": "$candid"}, "as": "found"}
GRAPH = {
    "from": "ZTF_alerts",
    "startWith": "$name",
    "connectFromField": "objectId",
    "connectToField": "objectId",
    "as": "found",
}
FAR = {"near": {"type": "Point", "coordinates": [-30.0, 20.0]}, "distanceField": "d"}


JOINS: list[list[dict[str, Any]]] = [
    [{"$lookup": LOOKUP}],
    [{"$lookup": {**LOOKUP, "pipeline": [{"$match": {}}]}}],
    [{"$lookup": {**INNER, "pipeline": [{"$match": {"$expr": {"$eq": ["$candid", "$$c"]}}}]}}],
    [{"$lookup": {**INNER, "pipeline": []}}],
    [{"$lookup": {**INNER, "pipeline": [{"$geoNear": FAR}]}}],
    [{"$lookup": {"from": "names", "pipeline": [{"$lookup": LOOKUP}], "as": "found"}}],
    [{"$lookup": AUX}],
    [{"$lookup": {**AUX, "pipeline": [{"$match": {"prv_candidates.mag": {"$gte": 0}}}]}}],
    [{"$lookup": AUX}, {"$unwind": "$found"}, {"$match": {"found.prv_candidates.mag": {"$gt": 0}}}],
    [{"$unionWith": "ZTF_alerts"}],
    [{"$unionWith": {"coll": "ZTF_alerts_aux"}}],
    [{"$unionWith": {"coll": "ZTF_alerts", "pipeline": [{"$set": {"all": "$$ROOT"}}]}}],
    [{"$unionWith": {"coll": "names", "pipeline": [{"$unionWith": "ZTF_alerts_aux"}]}}],
    [{"$facet": {"a": [{"$unionWith": "ZTF_alerts"}], "b": [{"$lookup": AUX}]}}],
    [{"$graphLookup": GRAPH}],
    [{"$graphLookup": {**GRAPH, "restrictSearchWithMatch": {"$or": [{}, {"candid": {"$gt": 0}}]}}}],
]


async def test_joins_see_the_users_programs(user: Any, admin: Any) -> None:
    for stages in JOINS:
        query = {"catalog": "names", "pipeline": stages}
        assert str(FOREIGN) in json.dumps(await ask(admin, "aggregate", query)), stages
        seen = json.dumps(await ask(user, "aggregate", query))
        assert str(FOREIGN) not in seen, stages
        assert "objectId" in seen or "prv_candidates" in seen, stages


PIPELINES: list[list[dict[str, Any]]] = [
    [{"$group": {"_id": "$candidate.field"}}],
    [{"$sortByCount": "$candidate.field"}],
    [{"$bucketAuto": {"groupBy": "$candidate.field", "buckets": 3}}],
    [{"$facet": {"a": [{"$match": {}}]}}],
    [{"$geoNear": FAR}],
    [{"$geoNear": {**FAR, "query": {"$or": [{"candid": {"$gte": 0}}, {}]}}}],
    [{"$geoNear": {**FAR, "distanceField": "candidate.programid"}}, {"$set": {"candidate.programid": 1}}],
    [{"$sample": {"size": 9}}],
    [{"$set": {"candidate.programid": 1}}, {"$match": {"candidate.programid": 1}}],
    [{"$match": {"$or": [{"candidate.programid": 1}, {"candidate.programid": 3}]}}],
    [{"$redact": "$$KEEP"}],
    [{"$setWindowFields": {"sortBy": {"candid": 1}, "output": {"next": {"$shift": {"output": "$text", "by": 1}}}}}],
]


async def test_pipelines_on_alerts_see_the_users_programs(user: Any, admin: Any) -> None:
    for stages in PIPELINES:
        assert str(FOREIGN) in json.dumps(await ask(admin, "aggregate", {**ALERTS, "pipeline": stages})), stages
        seen = await ask(user, "aggregate", {**ALERTS, "pipeline": stages})
        assert seen, stages
        assert str(FOREIGN) not in json.dumps(seen), stages


async def test_what_cannot_be_guarded_is_refused(user: Any, admin: Any) -> None:
    numeric = {"$expr": {"$gt": [{"$toInt": "$text"}, 0]}}
    for stage, message in (
        ({"$lookup": {**AUX, "localField": "mag", "foreignField": "prv_candidates.mag"}}, "foreignField can't be"),
        (
            {"$lookup": {**AUX, "localField": "mag", "foreignField": "fp_hists", "pipeline": []}},
            "foreignField can't be",
        ),
        ({"$graphLookup": {**GRAPH, "from": "ZTF_alerts_aux"}}, "joined by $lookup only"),
        ({"$graphLookup": {**GRAPH, "restrictSearchWithMatch": numeric}}, "use $match afterwards"),
    ):
        status, answer = await user.query("aggregate", {"catalog": "names", "pipeline": [stage]})
        assert (status, message in answer["message"]) == (400, True), answer


async def test_views_of_guarded_collections_are_refused(user: Any, admin: Any) -> None:
    for view in ("all_alerts", "joined"):
        for kind, query in (
            ("find", {"catalog": view, "filter": {}}),
            ("count_documents", {"catalog": view, "filter": {}}),
            ("estimated_document_count", {"catalog": view}),
            ("info", {"command": "catalog_info", "catalog": view}),
            ("aggregate", {"catalog": "names", "pipeline": [{"$unionWith": view}]}),
            ("aggregate", {"catalog": "names", "pipeline": [{"$facet": {"a": [{"$unionWith": view}]}}]}),
            ("cone_search", {**EVERYWHERE, "catalogs": {view: {}}}),
        ):
            status, answer = await user.query(kind, query)
            assert (status, f"{view} is a view of ZTF_alerts" in answer["message"]) == (400, True), (kind, answer)
        assert await ask(admin, "count_documents", {"catalog": view, "filter": {}}) >= 9
    assert await ids(user, "find", {"catalog": "bright", "filter": {}}) == [0, 1]


async def test_an_error_tells_nothing_of_hidden_documents(user: Any, admin: Any) -> None:
    """`$toInt` fails on the text of other programs' alerts, and its error quotes the text."""
    fails = {"$expr": {"$ne": [{"$toInt": {"$cond": [{"$eq": ["$candidate.field", 1]}, None, "$text"]}}, 0]}}
    hidden = {"_id": {"$gte": 0}, "$or": [fails, {"_id": -1}]}
    other = {"from": "ZTF_alerts", "pipeline": [{"$match": hidden}], "as": "found"}
    for kind, query in (
        ("find", {**ALERTS, "filter": fails}),
        ("find", {**ALERTS, "filter": hidden}),
        ("find_one", {**ALERTS, "filter": {"$and": [{"_id": {"$gt": 5}}, fails]}}),
        ("count_documents", {**ALERTS, "filter": hidden}),
        ("aggregate", {**ALERTS, "pipeline": [{"$sort": {"_id": 1}}, {"$match": hidden}]}),
        ("aggregate", {**ALERTS, "pipeline": [{"$facet": {"a": [{"$match": hidden}]}}]}),
        ("aggregate", {"catalog": "names", "pipeline": [{"$lookup": other}]}),
        (
            "aggregate",
            {
                "catalog": "names",
                "pipeline": [{"$unionWith": {"coll": "ZTF_alerts", "pipeline": [{"$match": fails}]}}],
            },
        ),
        ("cone_search", {**EVERYWHERE, "catalogs": {"ZTF_alerts": {"filter": hidden}}}),
    ):
        status, answer = await admin.query(kind, query)
        assert (status, str(FOREIGN) in answer["message"]) == (400, True), (kind, answer)
        status, answer = await user.query(kind, query)
        assert status == 200, (kind, answer)
        assert str(FOREIGN) not in json.dumps(answer, default=str)


def test_conditions_that_may_fail_are_split_off() -> None:
    safe, fails = {"$expr": {"$eq": ["$a", "$$b"]}}, {"$expr": {"$eq": [{"$toInt": "$a"}, 1]}}
    assert not guards.may_fail({"a": 1, "$or": [{"b": {"$in": [1]}}, safe]})
    assert guards.may_fail({"$nor": [{"$or": [fails]}]})
    assert guards.split({"a": 1, **fails}) == ({"a": 1}, fails)
    assert guards.split({"$and": [{"a": 1}, fails], "b": 2}) == ({"$and": [{"a": 1}], "b": 2}, {"$and": [fails]})
    assert guards.split({"$or": [{"a": 1}, fails]}) == ({}, {"$or": [{"a": 1}, fails]})


def test_nobodys_programs_show_nothing() -> None:
    guard = get("ZTF").guards([])
    assert guard["ZTF_alerts"].match == {"candidate.programid": {"$in": []}}
    assert len(guard["ZTF_alerts_aux"].match["$or"]) == 2


async def test_permissions_of_the_user_decide(admin: Any) -> None:
    for number, (permissions, seen) in enumerate(
        (({}, 3), ({"ZTF": [1, 2]}, 6), ({"ZTF": [1, 2, 3]}, 9), ({"ZTF": []}, 0))
    ):
        name = f"mia{number}"
        body = {"username": name, "password": "hubble", "permissions": permissions}
        assert (await admin("POST", "/api/users", body))[0] == 200
        mia = await admin.log_in(name, "hubble")
        assert await ask(mia, "count_documents", {**ALERTS, "filter": {}}) == seen
    assert (await admin("PUT", f"/api/users/{name}", {"permissions": {"ZTF": [3]}}))[0] == 200
    assert await ids(mia, "find", {**ALERTS, "filter": {}}) == [6, 7, 8]
