"""A user's answer is what an archive would give that never held what they may not see.

Random queries are sent by a plain user to an archive and to its twin, which lacks the documents and rows of other
programs: answers must be equal, errors included. So nothing may get through, neither as a document nor by a count, an
order, a computed value, or an error.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from kowalski.api.app import create_app
from kowalski.archive import names
from kowalski.archive.client import Role, connect, data_database, system_database
from kowalski.config import Settings
from kowalski.runtime import accounts

from .conftest import Asker

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SECRET = "nobody-shall-see-this"
CATALOGS = ["ZTF_alerts", "ZTF_alerts_aux", "names"]
HISTORIES = ("prv_candidates", "fp_hists")

Query = dict[str, Any]
Stage = dict[str, Any]


def alert(number: int) -> Query:
    program = number % 3 + 1
    return {
        "_id": number,
        "candid": number,
        "objectId": f"ZTF{number % 4}",
        "candidate": {"programid": program, "magpsf": 15 + number, "field": number % 5},
        "text": str(number) if program == 1 else f"{SECRET} {number}",
        "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [number / 100, 20.0]}},
    }


def rows(start: int, count: int) -> list[Query]:
    return [{"jd": float(n), "programid": n % 3 + 1, "magpsf": 15 + n} for n in range(start, start + count)]


OBJECTS: list[Query] = [
    {"_id": "ZTF0", "prv_candidates": rows(0, 6), "fp_hists": rows(1, 2), "cross_matches": {"a": 1}},
    {"_id": "ZTF1", "prv_candidates": rows(3, 4), "cross_matches": {"a": 2}},
    {"_id": "ZTF2", "prv_candidates": rows(1, 2), "cross_matches": {"a": SECRET}},
    {"_id": "ZTF3", "prv_candidates": [], "fp_hists": [], "cross_matches": {}},
]


def seen(document: Query) -> Query | None:
    """An object as somebody sees it who sees program 1; None if they don't."""
    kept = {name: [row for row in document[name] if row["programid"] == 1] for name in HISTORIES if name in document}
    held = any(document.get(name) for name in HISTORIES)
    return None if held and not any(kept.values()) else {**document, **kept}


def fill(mongo: MongoClient[Query], settings: Settings, *, whole: bool) -> None:
    data = data_database(mongo, settings)
    alerts = [alert(number) for number in range(12)]
    data["ZTF_alerts"].insert_many([each for each in alerts if whole or each["candidate"]["programid"] == 1])
    objects = OBJECTS if whole else [each for document in OBJECTS if (each := seen(document)) is not None]
    data["ZTF_alerts_aux"].insert_many(objects)
    data["names"].insert_many([{"_id": n, "objectId": f"ZTF{n}", "candid": n, "mag": 15 + n} for n in range(6)])
    data["ZTF_alerts"].create_index([("coordinates.radec_geojson", "2dsphere")])
    data["ZTF_alerts"].create_index([("objectId", 1)])


@pytest.fixture
def archive(settings: Settings, mongo: MongoClient[Query]) -> Settings:
    fill(mongo, settings, whole=True)
    # An old system kept its users beside the data; such a collection stays out of reach, too.
    for database in (data_database(mongo, settings), system_database(mongo, settings)):
        database[names.USERS].insert_one({"_id": SECRET, "password": SECRET})
    return settings


@pytest.fixture
async def twin(settings: Settings, mongo: MongoClient[Query]) -> AsyncIterator[Any]:
    """A user of an archive that holds only what they may see."""
    other = settings.model_copy(deep=True)
    other.database.db += "_twin"
    other.database.username += "_twin"
    other.database.query_username += "_twin"
    accounts.prepare(other)
    with connect(other, Role.WRITER) as writer:
        fill(writer, other, whole=False)
    async with TestClient(TestServer(create_app(other))) as client:
        admin = await Asker(client).log_in("admin", "admin")
        assert (await admin("POST", "/api/users", {"username": "vera", "password": "rubin"}))[0] == 200
        yield await admin.log_in("vera", "rubin")
    with connect(other, Role.ADMIN) as client:
        for name in (other.database.db, other.database.system_db):
            client.drop_database(name)
    accounts.drop_accounts(other)


FAILING = {"$expr": {"$gte": [{"$toInt": "$text"}, 0]}}
"""Fails on the text of other programs' alerts, and the error quotes it."""

BY_ROWS = {"from": "ZTF_alerts_aux", "localField": "mag", "foreignField": "prv_candidates.magpsf", "as": "found"}
"""Would find objects by rows that are taken out of them."""

numbers = st.integers(0, 25)
DOCUMENTS = ["_id", "candid", "objectId", "candidate.programid", "candidate.magpsf", "text", "cross_matches.a"]
ROWS = ["prv_candidates", "prv_candidates.magpsf", "fp_hists", "fp_hists.programid"]
fields = st.sampled_from([*DOCUMENTS, *ROWS, "found.candidate.programid", "found", "n"])
paths = fields.map("${}".format)
computed = st.one_of(
    paths,
    numbers,
    st.builds(lambda path: {"$toInt": path}, paths),
    st.builds(lambda path: {"$size": path}, paths),
    st.builds(lambda path: {"$ifNull": [path, 0]}, paths),
    st.builds(lambda one, other: {"$add": [one, other]}, paths, numbers),
    st.builds(lambda path: {"$type": path}, paths),
    st.builds(lambda path: {"$arrayElemAt": [path, 0]}, paths),
    st.builds(lambda one, other: {"$eq": [one, other]}, paths, paths),
)
plain = st.one_of(
    st.just({}),
    st.builds(lambda field, value: {field: value}, fields, numbers),
    st.builds(lambda field, value: {field: {"$gt": value}}, fields, numbers),
    st.builds(lambda field, value: {field: {"$not": {"$lt": value}}}, fields, numbers),
    st.builds(lambda field: {field: {"$exists": True}}, fields),
    st.builds(lambda field, size: {field: {"$size": size}}, fields, st.integers(0, 4)),
    st.builds(lambda field: {field: {"$elemMatch": {"programid": {"$ne": 1}}}}, fields),
    st.just({"objectId": {"$regex": "^ZTF[02]"}}),
    st.builds(lambda one, other: {"$expr": {"$gt": [one, other]}}, computed, computed),
    st.just(FAILING),
)
conditions = st.recursive(
    plain,
    lambda inner: st.builds(
        lambda operator, parts: {operator: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
catalogs = st.sampled_from(CATALOGS)
near = {"near": {"type": "Point", "coordinates": [0.0, 20.0]}, "distanceField": "far"}
shapes = st.sampled_from([1, None, "x", [], {}, [{}], {"from": 1}, {"coll": "names"}])


def lookups(inner: st.SearchStrategy[list[Stage]]) -> st.SearchStrategy[Stage]:
    by_field = st.builds(
        lambda coll, local, foreign: {"from": coll, "localField": local, "foreignField": foreign, "as": "found"},
        catalogs,
        fields,
        fields,
    )
    by_pipeline = st.builds(
        lambda coll, pipeline: {"from": coll, "let": {"v": "$candid"}, "pipeline": pipeline, "as": "found"},
        catalogs,
        inner,
    )
    both = st.builds(lambda one, pipeline: {**one, "pipeline": pipeline}, by_field, inner)
    return st.one_of(by_field, by_pipeline, both).map(lambda join: {"$lookup": join})


def stages(inner: st.SearchStrategy[list[Stage]]) -> st.SearchStrategy[Stage]:
    """Any stage that users may write, with pipelines of ``inner`` inside."""
    return st.one_of(
        conditions.map(lambda condition: {"$match": condition}),
        computed.map(lambda value: {"$set": {"n": value}}),
        fields.map(lambda field: {"$set": {field: 1}}),
        fields.map(lambda field: {"$unset": field}),
        fields.map(lambda field: {"$unwind": {"path": f"${field}", "preserveNullAndEmptyArrays": True}}),
        computed.map(lambda value: {"$group": {"_id": value, "n": {"$sum": 1}, "top": {"$max": "$candidate.magpsf"}}}),
        st.just({"$project": {"all": "$$ROOT"}}),
        st.just({"$replaceWith": {"found": "$$ROOT"}}),
        st.just({"$redact": {"$cond": [{"$eq": ["$programid", 2]}, "$$PRUNE", "$$DESCEND"]}}),
        st.just({"$count": "n"}),
        st.just({"$bucketAuto": {"groupBy": "$candidate.magpsf", "buckets": 2}}),
        st.just({"$geoNear": near}),
        conditions.map(lambda condition: {"$geoNear": {**near, "query": condition}}),
        lookups(inner),
        st.builds(
            lambda coll, field, own: {
                "$graphLookup": {
                    "from": coll,
                    "startWith": "$objectId",
                    "connectFromField": field,
                    "connectToField": "objectId",
                    "restrictSearchWithMatch": own,
                    "as": "found",
                }
            },
            catalogs,
            fields,
            conditions,
        ),
        catalogs.map(lambda coll: {"$unionWith": coll}),
        st.builds(lambda coll, pipeline: {"$unionWith": {"coll": coll, "pipeline": pipeline}}, catalogs, inner),
        st.builds(lambda one, other: {"$facet": {"a": one, "b": other}}, inner, inner),
        st.builds(
            lambda stage, shape: {stage: shape},
            st.sampled_from(["$lookup", "$graphLookup", "$facet", "$geoNear", "$match", "$unwind", "$unionWith"]),
            shapes,
        ),
    )


pipelines = st.recursive(
    st.lists(stages(st.just([{"$match": {}}])), min_size=1, max_size=3),
    lambda inner: st.lists(stages(inner), min_size=1, max_size=3),
    max_leaves=3,
)
queries = st.one_of(
    st.builds(lambda coll, pipeline: ("aggregate", {"catalog": coll, "pipeline": pipeline}, {}), catalogs, pipelines),
    st.builds(
        lambda kind, coll, condition, projection, sort: (
            kind,
            {"catalog": coll, "filter": condition, "projection": projection},
            {"sort": [[sort, -1], ["_id", 1]], "limit": 3},
        ),
        st.sampled_from(["find", "find_one", "count_documents"]),
        catalogs,
        conditions,
        st.sampled_from([{}, {"prv_candidates": 1}, {"text": 0}, {"n": {"$size": "$prv_candidates"}}]),
        fields,
    ),
)


def comparable(value: Any) -> Any:
    """Sort lists, whose order is often MongoDB's choice."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return sorted((comparable(item) for item in value), key=lambda item: json.dumps(item, default=str))
    return value


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=queries)
@example(
    asked=(
        "aggregate",
        {
            "catalog": "names",
            "pipeline": [
                {"$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "found"}},
                {"$unwind": "$found"},
                {"$match": {"found.prv_candidates.magpsf": {"$gt": 16}}},
            ],
        },
        {},
    )
)
@example(asked=("aggregate", {"catalog": "names", "pipeline": [{"$lookup": BY_ROWS}]}, {}))
@example(asked=("find", {"catalog": "ZTF_alerts", "filter": {"$or": [{"_id": -1}, FAILING]}}, {}))
@example(asked=("find", {"catalog": "ZTF_alerts_aux", "filter": {"prv_candidates.magpsf": {"$gt": 20}}}, {}))
async def test_a_users_answer_is_that_of_an_archive_without_the_rest(
    archive: Settings, user: Any, twin: Any, asked: tuple[str, Query, Query]
) -> None:
    kind, query, options = asked
    status, answer = await user.query(kind, query, **options)
    assert status in (200, 400), answer
    expected_status, expected = await twin.query(kind, query, **options)
    assert status == expected_status, (answer, expected)
    assert comparable(answer.get("data")) == comparable(expected.get("data"))
    assert SECRET not in json.dumps(answer, default=str)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(pipeline=pipelines, write=st.sampled_from([None, {"$out": "stolen"}, {"$merge": {"into": "stolen"}}]))
def test_without_the_walk_the_account_yields_no_system_document_and_no_write(
    archive: Settings, mongo: MongoClient[Query], pipeline: list[Any], write: Stage | None
) -> None:
    data, system = data_database(mongo, archive), system_database(mongo, archive)
    data[names.USERS].drop()  # the database's own right is about what is in the system database
    before = sorted(data.list_collection_names())
    foreign = {"$lookup": {"from": {"db": system.name, "coll": names.USERS}, "pipeline": [], "as": "found"}}
    joins = [{"$lookup": {"from": names.USERS, "pipeline": [], "as": "users"}}, {"$unionWith": names.USERS}]
    with connect(archive, Role.READER) as reader:
        for attempt in ([*pipeline, *joins], [*pipeline, foreign], [*pipeline, *([write] if write else [])]):
            for database in (data.name, system.name, "admin"):
                try:
                    found = list(
                        reader[database]["ZTF_alerts" if database == data.name else names.USERS].aggregate(attempt)
                    )
                except (OperationFailure, TypeError):
                    continue
                assert '"password"' not in json.dumps(found, default=str)
    assert sorted(data.list_collection_names()) == before
    assert system[names.USERS].count_documents({}) >= 1
