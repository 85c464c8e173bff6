"""Nobody gets at system documents, scripts or writes, whatever the query looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from kowalski.api import sandbox
from kowalski.api.sandbox import FILTER_STAGES, SandboxError, check_catalog, check_expression, check_pipeline
from kowalski.archive import names
from kowalski.archive.client import Role, connect, data_database, system_database
from kowalski.config import Settings

SECRET = "nobody-shall-see-this"
JOIN = {"$lookup": {"from": "users", "pipeline": [], "as": "found"}}
HARMLESS = {"$lookup": {"from": "ZTF_alerts_aux", "localField": "objectId", "foreignField": "_id", "as": "aux"}}


@pytest.mark.parametrize(
    "stage",
    [
        JOIN,
        {"$facet": {"a": [{"$match": {}}, JOIN]}},
        {"$lookup": {"from": "ZTF_alerts_aux", "pipeline": [JOIN], "as": "a"}},
        {"$unionWith": "users"},
        {"$unionWith": {"coll": "filters"}},
        {"$unionWith": {"coll": "ZTF_alerts", "pipeline": [{"$unionWith": "users"}]}},
        {"$graphLookup": {"from": "users", "startWith": "$_id", "connectFromField": "a", "connectToField": "b"}},
        {"$lookup": {"from": {"db": "kowalski_system", "coll": "users"}, "pipeline": [], "as": "a"}},
        {"$lookup": {"from": " users ", "pipeline": [], "as": "a"}},
        {"$lookup": {"from": "system.profile", "pipeline": [], "as": "a"}},
        {"$lookup": {"pipeline": [{"$documents": []}], "as": "a"}},
        {"$out": "stolen"},
        {"$merge": {"into": "stolen"}},
        {"$facet": {"a": [{"$out": "stolen"}]}},
        {"$match": {"$where": "true"}},
        {"$match": {"$expr": {"$function": {"body": "x", "args": [], "lang": "js"}}}},
        {"$group": {"_id": None, "a": {"$accumulator": {}}}},
        {"$project": {"a": {"$map": {"input": [1], "in": {"$function": {}}}}}},
        {"$currentOp": {}},
        {"$listSessions": {}},
        {"$collStats": {}},
        {"$changeStream": {}},
        {"$matc": {}},
        {"$match": {}, "$out": "stolen"},
        {"$facet": {"a": {"$match": {}}}},
        "$match",
    ],
)
def test_refused_stages(stage: Any) -> None:
    with pytest.raises(SandboxError):
        check_pipeline([{"$match": {}}, stage])


@pytest.mark.parametrize(
    "stage", [HARMLESS, {"$facet": {"a": [HARMLESS]}}, {"$unionWith": "Gaia_EDR3"}, {"$match": {"users": 1}}]
)
def test_allowed_stages(stage: Any) -> None:
    check_pipeline([stage])


@pytest.mark.parametrize("stage", [HARMLESS, {"$unionWith": "Gaia_EDR3"}, {"$facet": {"a": [HARMLESS]}}, {"$out": "x"}])
def test_filters_see_their_alert_only(stage: Any) -> None:
    with pytest.raises(SandboxError, match="pipeline uses forbidden stages"):
        check_pipeline([stage], FILTER_STAGES, "pipeline")


def test_messages() -> None:
    with pytest.raises(SandboxError, match="Pipeline must contain at least one stage"):
        check_pipeline([])
    with pytest.raises(SandboxError, match=r"Pipeline uses forbidden stages: \{'\$merge', '\$out'\}"):
        check_pipeline([{"$out": "a"}, {"$merge": "b"}])
    with pytest.raises(SandboxError, match="Protected collection"):
        check_catalog(" users ")
    deep: Any = {}
    for _ in range(200):
        deep = {"$and": [deep]}
    with pytest.raises(SandboxError, match="nested deeper"):
        check_expression(deep)


targets = st.sampled_from(
    ["ZTF_alerts", "Gaia_EDR3", "users", " users", "filters", "users\0", "system.users", "kowalski_system.users"]
)
conditions = st.sampled_from([{}, {"candid": {"$gt": 0}}, {"$where": "true"}, {"$expr": {"$eq": ["$_id", "$_id"]}}])


def stages(inner: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Any stage, allowed or not, with pipelines of ``inner`` inside."""
    return st.one_of(
        st.builds(lambda match: {"$match": match}, conditions),
        st.builds(lambda n: {"$limit": n}, st.integers(1, 5)),
        st.just({"$project": {"candid": 1, "found": 1}}),
        st.just({"$addFields": {"all": "$$ROOT"}}),
        st.builds(lambda coll: {"$unionWith": coll}, targets),
        st.builds(lambda coll, p: {"$unionWith": {"coll": coll, "pipeline": p}}, targets, inner),
        st.builds(lambda coll, p: {"$lookup": {"from": coll, "pipeline": p, "as": "found"}}, targets, inner),
        st.builds(lambda coll: {"$lookup": {"from": {"db": "admin", "coll": coll}, "as": "found"}}, targets),
        st.builds(
            lambda coll: {
                "$graphLookup": {
                    "from": coll,
                    "startWith": "$_id",
                    "connectFromField": "_id",
                    "connectToField": "_id",
                    "as": "found",
                }
            },
            targets,
        ),
        st.builds(lambda p: {"$facet": {"a": p}}, inner),
        st.builds(lambda coll: {"$out": coll}, targets),
    )


pipelines = st.recursive(
    st.lists(stages(st.just([])), max_size=3),
    lambda inner: st.lists(stages(inner), min_size=1, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pipeline=pipelines, catalog=targets)
async def test_random_pipelines_never_give_a_system_document(
    archive: Settings, mongo: MongoClient[dict[str, Any]], user: Any, pipeline: list[Any], catalog: str
) -> None:
    system = system_database(mongo, archive)
    system[names.USERS].replace_one({"_id": SECRET}, {"password": SECRET}, upsert=True)
    # An old system kept its users beside the data; such a collection stays out of reach, too.
    data_database(mongo, archive)["users"].replace_one({"_id": SECRET}, {"_id": SECRET}, upsert=True)
    before = sorted(data_database(mongo, archive).list_collection_names())
    for kind, query in (
        ("aggregate", {"catalog": catalog, "pipeline": pipeline}),
        ("find", {"catalog": catalog, "filter": {"$or": [{"_id": SECRET}, *({} for _ in pipeline)]}}),
    ):
        status, answer = await user.query(kind, query)
        assert status in (200, 400), answer
        assert SECRET not in json.dumps(answer.get("data"), default=str)
    assert sorted(data_database(mongo, archive).list_collection_names()) == before


def test_without_the_walk_the_account_still_forbids_it(archive: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    system_database(mongo, archive)[names.USERS].insert_one({"_id": SECRET})
    with connect(archive, Role.READER) as reader:
        data, system = data_database(reader, archive), system_database(reader, archive)
        with pytest.raises(OperationFailure):
            system[names.USERS].find_one()
        for stage in (
            {"$lookup": {"from": {"db": system.name, "coll": names.USERS}, "pipeline": [], "as": "found"}},
            {"$out": "stolen"},
            {"$merge": {"into": {"db": system.name, "coll": names.USERS}}},
            {"$match": {"$where": "true"}},
        ):
            with pytest.raises(OperationFailure):
                list(data["ZTF_alerts"].aggregate([stage]))
        (joined, *_) = data["ZTF_alerts"].aggregate([JOIN])
        assert joined["found"] == []
        with pytest.raises(OperationFailure):
            data["ZTF_alerts"].delete_one({})
        with pytest.raises(OperationFailure):
            data["ZTF_alerts"].drop()


async def test_the_administrator_may_read_system_documents_and_change_none(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any
) -> None:
    status, answer = await admin.query("find", {"catalog": "users", "filter": {}, "projection": {"_id": 1}})
    assert (status, answer["data"]) == (200, [{"_id": "admin"}])
    status, _ = await admin.query("aggregate", {"catalog": "users", "pipeline": [{"$out": "users"}]})
    assert status == 400
    assert {"users", "filters", "queries"} <= sandbox.PROTECTED


async def test_dropping_is_for_the_administrator(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any, user: Any
) -> None:
    assert (await user.query("drop", {"catalog": "Gaia_EDR3"}))[0] == 403
    assert (await admin.query("drop", {"catalog": "users"}))[0] == 400
    assert "Gaia_EDR3" in data_database(mongo, archive).list_collection_names()
    assert await admin.query("drop", {"catalog": "Gaia_EDR3"}) == (
        200,
        {"status": "success", "message": "Successfully dropped collection"},
    )
    assert "Gaia_EDR3" not in data_database(mongo, archive).list_collection_names()
