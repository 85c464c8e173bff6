"""Documents by their key: many requests at once get what each would get alone."""

from __future__ import annotations

import asyncio
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import ExecutionTimeout

from kowalski.api.lookups import Kind, Lookups, as_text
from kowalski.archive.client import Role, async_data_database, connect_async, data_database
from kowalski.config import Settings
from kowalski.config.settings import Database

CANDID = 1105522281015015000
LOOKUPS = Lookups(Database(indexes={"ZTF_alerts": [{"name": "candid", "fields": [("candid", 1)], "unique": True}]}))


@pytest.mark.parametrize(
    ("condition", "projection", "found"),
    [
        ({"candid": 1}, None, ("candid", 1)),
        ({"_id": "a"}, {}, ("_id", "a")),
        ({"candid": 1}, {"cutoutScience": 0, "_id": False}, ("candid", 1)),
        ({"candid": 1}, {"candid": 1, "_id": 0}, ("candid", 1)),
        ({"_id": 1}, {"jd": True}, ("_id", 1)),
        ({"candid": 1}, {"candid": 0}, None),
        ({"candid": 1}, {"jd": 1}, None),
        ({"candid": 1}, {"_id": 1}, None),
        ({"candid": 1}, {"_id": 0}, ("candid", 1)),
        ({"_id": 1}, {"_id": 1}, ("_id", 1)),
        ({"candid": 1}, {"candid": {"$toString": "$candid"}}, None),
        ({"candid": 1}, {"candid": "$objectId"}, None),
        ({"candid": 1}, {"candid": 1.0}, None),
        ({"candid": 1}, ["candid"], None),
        ({"_id": 1}, {"_id": 0}, None),
        ({"_id": 1}, {"_id": 0, "jd": 1}, None),
        ({"candid": True}, None, None),
        ({"candid": 1.0}, None, None),
        ({"candid": 2**63}, None, None),
        ({"candid": "\udc80"}, None, None),
        ({"candid": {"$gt": 1}}, None, None),
        ({"candid": 1, "jd": 2}, None, None),
        ({"objectId": "a"}, None, None),
        ({}, None, None),
    ],
)
def test_what_counts_as_a_key(condition: dict[str, Any], projection: Any, found: Any) -> None:
    assert LOOKUPS.key_of("ZTF_alerts", condition, projection) == found


async def test_each_gets_its_own(archive: Settings, user: Any) -> None:
    async def one(kind: str, number: int, **kwargs: Any) -> Any:
        query = {"catalog": "ZTF_alerts", "filter": {"candid": CANDID + number}, "projection": {"candidate": 0}}
        status, answer = await user.query(kind, query, **kwargs)
        assert status == 200, answer
        return answer.get("data")

    wanted = [*range(12), *range(12)]  # two of them are not there, and each is asked for twice
    found = await asyncio.gather(*(one("find", number, limit=2) for number in wanted))
    assert [[each["_id"] - CANDID for each in documents] for documents in found] == [
        [number] if number < 10 else [] for number in wanted
    ]
    assert await one("find", 3) == await one("find", 3, hint="candid") == await one("find", 3, sort=[["candid", 1]])
    assert await one("find", 3, skip=1) == []
    assert (await one("find_one", 3))["candid"] == CANDID + 3
    assert await one("find_one", 11) is None


async def test_what_a_user_may_not_see_is_not_found(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any, admin: Any
) -> None:
    alerts = data_database(mongo, archive)["ZTF_alerts"]
    alerts.update_one({"_id": CANDID}, {"$set": {"candidate.programid": 3}})
    query = {"catalog": "ZTF_alerts", "filter": {"_id": CANDID}}
    answers = await asyncio.gather(*(each.query("find", query) for each in (user, admin, user)))
    assert [len(answer["data"]) for _, answer in answers] == [0, 1, 0]


async def test_who_searches_at_the_same_place_at_the_same_time_sees_only_what_is_theirs(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any, admin: Any
) -> None:
    alerts = data_database(mongo, archive)["ZTF_alerts"]
    place = alerts.find_one({"_id": CANDID})["coordinates"]["radec_geojson"]["coordinates"]
    alerts.update_one({"_id": CANDID}, {"$set": {"candidate.programid": 3}})
    cone = {"radec": [[place[0] + 180.0, place[1]]], "cone_search_radius": 1, "cone_search_unit": "arcsec"}
    query = {"object_coordinates": cone, "catalogs": {"ZTF_alerts": {"projection": {"_id": 1}}}}
    answers = await asyncio.gather(*(each.query("cone_search", query) for each in [user, admin] * 20))
    found = [[each["_id"] for each in answer["data"]["ZTF_alerts"].popitem()[1]] for _, answer in answers]
    assert found == [[], [CANDID]] * 20


async def test_a_failure_is_everybodys_and_not_the_end(archive: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    client = connect_async(archive, Role.READER)
    collection = async_data_database(client, archive)["ZTF_alerts"]
    never = {"$expr": {"$gt": [{"$size": {"$range": [0, {"$add": [2_000_000, "$candidate.programid"]}]}}, 0]}}
    lookups = Lookups(archive.database)

    async def find(condition: dict[str, Any], key: int, time_ms: int) -> list[Any]:
        kind = Kind("ZTF_alerts", "_id", as_text(None), as_text(condition), "vera", time_ms)
        return await lookups.find(collection, kind, CANDID + key, condition, None)

    failed = await asyncio.gather(*(find(never, key, 1) for key in range(5)), return_exceptions=True)
    assert {type(error) for error in failed} == {ExecutionTimeout}
    assert [bson.decode(each)["_id"] for each in await find({}, 2, 10_000)] == [CANDID + 2]
    await client.close()
