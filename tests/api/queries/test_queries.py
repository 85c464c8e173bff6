"""Queries over HTTP: what penquins doesn't send, what is refused, and the ceilings."""

from __future__ import annotations

from typing import Any

from bson import Decimal128, ObjectId
from pymongo import MongoClient

from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.config.serving import Ceilings

CANDID = 1105522281015015000
ALERTS = {"catalog": "ZTF_alerts"}
IDS = {"_id": 1}


async def ask(user: Any, kind: str, query: dict[str, Any], **kwargs: Any) -> Any:
    status, answer = await user.query(kind, query, **kwargs)
    assert (status, answer["message"]) == (200, "Successfully executed query"), answer
    return answer.get("data")


def numbers(documents: list[dict[str, Any]]) -> list[int]:
    return [document["_id"] - CANDID for document in documents]


async def test_find_with_options(user: Any) -> None:
    found = await ask(user, "find", {**ALERTS, "filter": {}, "projection": IDS}, sort={"candid": -1}, skip=2, limit=3)
    assert numbers(found) == [7, 6, 5]
    found = await ask(user, "find", {**ALERTS, "filter": {}, "projection": IDS}, sort=[["$natural", -1]], limit=1)
    assert numbers(found) == [9]
    found = await ask(user, "find", {**ALERTS, "filter": {"candid": CANDID}}, hint="candid", _id="x", save=False)
    assert len(found) == 1


async def test_strings_and_blanks_and_extended_json(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any
) -> None:
    query = {"catalog": " ZTF_alerts ", "filter": f"{{'candid': {{'$in': [{CANDID}]}}}}", "projection": "{'_id': 1}"}
    assert numbers(await ask(user, "find", query)) == [0]
    key = ObjectId()
    stored = {"_id": key, "price": Decimal128("1.5"), "nan": float("nan"), "huge": 2**62}
    data_database(mongo, archive)["prices"].insert_one(stored)
    (found,) = await ask(user, "find", {"catalog": "prices", "filter": {"_id": {"$oid": str(key)}}})
    assert (found["_id"], found["price"], found["huge"]) == (key, Decimal128("1.5"), 2**62)
    assert found["nan"] != found["nan"]


async def test_find_one_honours_projection_sort_and_skip(user: Any) -> None:
    query = {**ALERTS, "filter": {}, "projection": {"text": {"$toString": "$candid"}, "_id": 0}}
    assert await ask(user, "find_one", query, sort=[["candid", -1]], skip=1) == {"text": str(CANDID + 8)}


async def test_counts_honour_limit_and_skip(user: Any) -> None:
    query = {**ALERTS, "filter": {}}
    assert await ask(user, "count_documents", query) == 10
    assert await ask(user, "count_documents", query, limit=4) == 4
    assert await ask(user, "count_documents", query, skip=7, hint="candid") == 3


async def test_an_unknown_catalog_is_empty(user: Any) -> None:
    nowhere = {"catalog": "nowhere"}
    assert await ask(user, "find", {**nowhere, "filter": {}}) == []
    assert await ask(user, "count_documents", {**nowhere, "filter": {}}) == 0
    assert await ask(user, "estimated_document_count", nowhere) == 0
    status, answer = await user.query("find_one", {**nowhere, "filter": {}})
    assert (status, "data" in answer) == (200, False)


async def test_info(user: Any) -> None:
    catalogs = await ask(user, "info", {"command": "catalog_names"})
    assert catalogs == sorted(catalogs, reverse=True)
    assert {"ZTF_alerts", "ZTF_alerts_aux", "Gaia_EDR3"} <= set(catalogs)
    assert not {"users", "filters", "logins"} & set(catalogs)
    assert (await ask(user, "info", {"command": "catalog_info", **ALERTS}))["count"] == 10
    assert (await ask(user, "info", {"command": "index_info", **ALERTS}))["_id_"]["key"] == [["_id", 1]]


CONE = {"radec": [[153.0, 20.0]], "cone_search_radius": "2", "cone_search_unit": "arcsec"}


async def test_a_filter_cannot_replace_the_cone(user: Any) -> None:
    everywhere = {"coordinates.radec_geojson": {"$exists": True}}
    for filter_first in (False, True):
        query = {"object_coordinates": CONE, "catalogs": {"ZTF_alerts": {"filter": everywhere, "projection": IDS}}}
        found = await ask(user, "cone_search", query, filter_first=filter_first)
        assert numbers(found["ZTF_alerts"]["[153_0, 20_0]"]) == [3]


async def test_many_positions_at_once(user: Any) -> None:
    radec = {f"object {number}": [150.0 + number / 10, 20.0] for number in range(100)}
    query = {"object_coordinates": {**CONE, "radec": radec}, "catalogs": {"ZTF_alerts": None, "Gaia_EDR3": {}}}
    found = await ask(user, "cone_search", query, limit=1)
    assert list(found) == ["ZTF_alerts", "Gaia_EDR3"]
    for catalog in found.values():
        assert list(catalog) == list(radec)
        assert [name for name, documents in catalog.items() if documents] == [f"object {10 * n}" for n in range(10)]


async def test_near_reaches_one_arcminute_by_default_whatever_the_unit(user: Any) -> None:
    query = {"radec": {"a": [150.0, 20.016], "b": [150.0, 20.017]}, "catalogs": {"ZTF_alerts": {"projection": IDS}}}
    for units in ("rad", "arcsec", "deg"):
        found = await ask(user, "near", {**query, "distance_units": units})
        assert {name: numbers(documents) for name, documents in found["ZTF_alerts"].items()} == {"a": [0], "b": []}
    further = {**query, "radec": {"a": [150.0, 20.0]}, "min_distance": 0.5, "max_distance": 2, "distance_units": "deg"}
    assert numbers((await ask(user, "near", further))["ZTF_alerts"]["a"]) == [1, 2]


async def test_refused(user: Any) -> None:
    find = {**ALERTS, "filter": {}}
    for kind, query, kwargs, message in (
        ("schemas", {}, {}, "query_type schemas not in (find, find_one, "),
        ("find", ALERTS, {}, "Unsupported filter specification"),
        ("find", {"filter": {}}, {}, "catalog"),
        ("find", {**find, "catalog": "users"}, {}, "Protected collection"),
        ("find", {**find, "catalog": " users "}, {}, "Protected collection"),
        ("find", {**find, "filter": {"$where": "1"}}, {}, "$where"),
        ("find", {**find, "filter": {"a": {"$nonsense": 1}}}, {}, "unknown operator: $nonsense"),
        ("find", {**find, "filter": {"$query": {}, "$maxTimeMS": 10**6}}, {}, "unknown operator: $query"),
        ("find", {**find, "filter": {"$_internalExprEq": {}}}, {}, "unknown operator: $_internalExprEq"),
        ("aggregate", {**ALERTS, "pipeline": [{"$_internalInhibitOptimization": {}}]}, {}, "unknown stages"),
        ("aggregate", {**ALERTS, "pipeline": [{"$lookup": "ZTF_alerts"}]}, {}, "must name its collection"),
        ("aggregate", {**ALERTS, "pipeline": [{"$facet": 5}]}, {}, "$facet must be an object"),
        ("find", {**find, "filter": {"a": 2**64 - 1}}, {}, "8-byte"),
        ("find", {**find, "filter": "open('x')"}, {}, "Python literal"),
        ("find", {**find, "projection": {"a": {"$function": {}}}}, {}, "$function"),
        ("find", find, {"limit": "2"}, "limit"),
        ("find", find, {"limit": -1}, "limit"),
        ("find", find, {"max_time_ms": 0}, "max_time_ms must be int >= 1"),
        ("find", find, {"max_time_ms": "1"}, "max_time_ms must be int >= 1"),
        ("find", find, {"hint": "nowhere"}, "OperationFailure: "),
        ("aggregate", {**ALERTS, "pipeline": []}, {}, "Pipeline must contain at least one stage"),
        ("aggregate", {**ALERTS, "pipeline": [{"$out": "x"}]}, {}, "Pipeline uses forbidden stages: {'$out'}"),
        ("cone_search", {"object_coordinates": CONE, "catalogs": {}}, {}, "catalogs"),
        ("cone_search", {"object_coordinates": CONE, "catalogs": {"users": {}}}, {}, "Protected collection"),
        ("cone_search", {"object_coordinates": {**CONE, "cone_search_unit": "mile"}}, {}, "Angular units not in (arc"),
        ("cone_search", {"object_coordinates": {"radec": []}, "catalogs": {"a": {}}}, {}, "cone_search_radius"),
        ("near", {"radec": [[0, 0]], "catalogs": {"prices": {}}, "max_distance": -1}, {}, "max_distance"),
        ("info", {"command": "index_info"}, {}, "needs a catalog"),
        ("info", {"command": "nonsense"}, {}, "command"),
    ):
        status, answer = await user.query(kind, query, **kwargs)
        assert (status, answer["status"]) == (400, "error"), (kind, query, kwargs, answer)
        assert message in answer["message"], (kind, query, kwargs)


async def test_near_without_an_index_is_no_fault_of_ours(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any
) -> None:
    data_database(mongo, archive)["prices"].insert_one({"a": 1})
    status, answer = await user.query("near", {"radec": [[0, 0]], "catalogs": {"prices": {}}})
    assert (status, answer["message"].partition(":")[0]) == (400, "OperationFailure")


async def test_time_is_limited(archive: Settings, user: Any) -> None:
    slow = [{"$match": {}}, *({"$unionWith": "ZTF_alerts"} for _ in range(6))]
    grow = [{"$project": {"a": {"$range": [0, 200_000]}}}, {"$unwind": "$a"}, {"$group": {"_id": "$a"}}]
    for kwargs in ({"max_time_ms": 20}, {}):
        archive.queries.max_time_ms = 300_000 if kwargs else 20
        status, answer = await user.query("aggregate", {**ALERTS, "pipeline": slow + grow}, **kwargs)
        assert (status, answer["message"].partition(":")[0]) == (400, "ExecutionTimeout")


async def test_ceilings_differ_by_role(archive: Settings, user: Any, admin: Any) -> None:
    archive.queries.max_rows = 5
    archive.queries.roles["admin"] = Ceilings(max_rows=9)
    nine, ten = ({**ALERTS, "filter": {"candid": {"$gte": CANDID + first}}, "projection": IDS} for first in (1, 0))
    assert len(await ask(admin, "find", nine)) == 9
    for asker, query, ceiling in ((user, nine, 5), (admin, ten, 9)):
        status, answer = await asker.query("find", query)
        assert (status, f"more than {ceiling} documents" in answer["message"]) == (400, True), answer


async def test_rows_and_bytes_are_limited(archive: Settings, user: Any) -> None:
    archive.queries.max_rows = 5
    status, answer = await user.query("find", {**ALERTS, "filter": {}})
    assert status == 400
    assert "more than 5 documents" in answer["message"]
    assert len(await ask(user, "find", {**ALERTS, "filter": {}}, limit=5)) == 5
    archive.queries.max_bytes = 1000
    status, answer = await user.query("find", {**ALERTS, "filter": {}}, limit=5)
    assert status == 400
    assert "larger than 1000 bytes" in answer["message"]
