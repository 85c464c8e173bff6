"""What went wrong in the system before this one, and where no other module of tests is the place for it.

The rest of its faults is shown not to be here where it belongs: of users in `test_users_route` and `test_accounts`, of
filters in `test_filters_route` and `test_filter_runs`, of localizations in `test_skymaps_route`, of labels in
`test_classifications_route`, of observatories in `test_triggers_route`, of the rest of queries in `test_queries`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId, json_util
from pymongo import MongoClient

from kowalski.archive import names
from kowalski.archive.client import Role, connect, data_database, system_database
from kowalski.surveys import SURVEYS

CANDID = 1105522281015015000
CONE = {"radec": {"a": [153, 20]}, "cone_search_radius": 2, "cone_search_unit": "arcsec"}


@pytest.fixture(scope="module")
def admin(served: Any) -> Any:
    with served.client() as client:
        yield client


@pytest.fixture(scope="module")
def mongo(served: Any) -> Any:
    with connect(served.settings, Role.WRITER) as client:
        yield client


def ask(client: httpx.Client, kind: str, query: dict[str, Any], **kwargs: Any) -> Any:
    answer = client.post("/api/queries", json={"query_type": kind, "query": query, "kwargs": kwargs})
    assert answer.status_code == 200, answer.text
    return json_util.loads(answer.text)["data"]


def test_blanks_around_a_catalogs_name_do_not_lead_to_another_catalog(admin: httpx.Client) -> None:
    blank = {"catalog": "\t ZTF_alerts \n"}
    assert len(ask(admin, "find", {**blank, "filter": {}})) == 10
    assert ask(admin, "count_documents", {**blank, "filter": {}}) == 10
    assert ask(admin, "estimated_document_count", blank) == 10
    assert ask(admin, "aggregate", {**blank, "pipeline": [{"$count": "n"}]}) == [{"n": 10}]
    found = ask(admin, "cone_search", {"object_coordinates": CONE, "catalogs": {" ZTF_alerts ": {}}})
    assert len(found["ZTF_alerts"]["a"]) == 1


def test_extended_json_is_decoded_in_filters_and_pipelines(
    admin: httpx.Client, served: Any, mongo: MongoClient[Any]
) -> None:
    key, when = ObjectId(), datetime(2024, 5, 17, 12, tzinfo=UTC)
    data_database(mongo, served.settings)["events"].insert_one({"_id": key, "at": when, "big": 2**60})
    for condition in (
        {"_id": {"$oid": str(key)}},
        {"at": {"$lte": {"$date": "2024-05-17T12:00:00Z"}, "$gt": {"$date": "2024-05-17T11:59:59.999Z"}}},
        {"$or": [{"big": {"$in": [{"$numberLong": str(2**60)}]}}]},
    ):
        assert [event["_id"] for event in ask(admin, "find", {"catalog": "events", "filter": condition})] == [key]
        pipeline = [{"$match": condition}, {"$project": {"_id": 0, "big": 1}}]
        assert ask(admin, "aggregate", {"catalog": "events", "pipeline": pipeline}) == [{"big": 2**60}]


def test_python_literals_are_parsed_and_never_run(admin: httpx.Client) -> None:
    literal = f"{{'candid': {{'$in': [{CANDID}, None, True]}}}}"
    assert len(ask(admin, "find", {"catalog": "ZTF_alerts", "filter": literal})) == 1
    pipeline = "[{'$match': {'candid': {'$gt': 0}}}, {'$count': 'n'}]"
    assert ask(admin, "aggregate", {"catalog": "ZTF_alerts", "pipeline": pipeline}) == [{"n": 10}]
    for text in (
        "__import__('os').getcwd()",
        "{'a': open('/etc/passwd').read()}",
        "[x for x in ()]",
        "(" * 5000,
        "{1: 2}",
    ):
        body = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": text}}
        assert admin.post("/api/queries", json=body).status_code == 400, text
    nested = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": "{'a': {1: 2}}"}}
    answer = admin.post("/api/queries", json=nested)
    assert (answer.status_code, "are texts" in answer.json()["message"]) == (400, True)


def test_a_filter_of_every_survey_can_be_saved_once_there_are_alerts(
    admin: httpx.Client, served: Any, mongo: MongoClient[Any]
) -> None:
    for number, survey in enumerate(SURVEYS.values(), 500):
        alerts = data_database(mongo, served.settings)[survey.alerts]
        if alerts.find_one() is None:
            name = {survey.object_id_field: "one"}
            alerts.insert_one({"_id": 1, "candid": 1, **name, "candidate": {"jd": 2460000.5, "programid": 1}})
        body = {"group_id": 1, "filter_id": number, "catalog": survey.alerts, "permissions": [1]}
        answer = admin.post("/api/filters", json={**body, "pipeline": [{"$match": {"candid": 1}}]})
        assert answer.status_code == 200, (survey.name, answer.text)


def test_what_clients_look_up_by_has_an_index(served: Any, admin: httpx.Client, mongo: MongoClient[Any]) -> None:
    unique = [
        index for index in system_database(mongo, served.settings)[names.FILTERS].list_indexes() if index.get("unique")
    ]
    assert any("filter_id" in index["key"] for index in unique)
    cone = {"ra": 90.0, "dec": 30.0, "error": 10.0}
    body = {"dateobs": "2023-06-23T15:42:26", "skymap": cone, "contours": [90]}
    assert admin.put("/api/skymap", json=body).status_code == 200
    keys = [index["key"] for index in data_database(mongo, served.settings)["skymaps"].list_indexes()]
    assert any("localization_name" in key for key in keys)


def test_times_are_in_universal_time_everywhere(served: Any, admin: httpx.Client, mongo: MongoClient[Any]) -> None:
    assert admin.post("/api/users", json={"username": "mia", "password": "hubble"}).status_code == 200
    body = {"group_id": 1, "filter_id": 7, "catalog": "ZTF_alerts", "permissions": [1], "pipeline": [{"$match": {}}]}
    assert admin.post("/api/filters", json=body).status_code == 200
    system = system_database(mongo, served.settings)
    stored = [system[names.USERS].find_one({"_id": "mia"}), system[names.FILTERS].find_one({"filter_id": 7})]
    for document in stored:
        assert document is not None
        assert abs(document["last_modified"].replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)


def test_a_header_that_is_no_token_is_no_error_of_the_server(served: Any) -> None:
    for header in ("Bearer", "bearer", "Basic abc", "abearer token", "é".encode().decode("latin-1")):
        answer = httpx.get(f"{served.url}/", headers={"Authorization": header.encode("latin-1", "replace")})
        assert answer.status_code in (400, 401), header
        assert answer.json()["status"] == "error"
