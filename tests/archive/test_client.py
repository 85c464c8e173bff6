"""Connection strings, and that acknowledged writes are durable."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from kowalski.archive import client
from kowalski.archive.client import Role
from kowalski.config import Settings


def configured(**database: Any) -> Settings:
    accounts = {"username": "w", "password": "p@ss:w/rd%", "query_username": "r", "query_password": "q"}
    return Settings.model_validate({"database": accounts | database})


def test_the_embedded_server_is_a_replica_set_on_this_machine() -> None:
    settings = configured(port=27027)
    found = parse_uri(client.uri(settings, Role.WRITER))
    assert found["nodelist"] == [("127.0.0.1", 27027)]
    assert (found["username"], found["password"]) == ("w", "p@ss:w/rd%")
    assert found["options"]["replicaSet"] == "rs0"
    assert found["options"]["authSource"] == "admin"
    assert parse_uri(client.uri(settings, Role.READER))["username"] == "r"


def test_a_server_without_a_replica_set_is_asked_directly() -> None:
    found = parse_uri(client.uri(configured(host="db.example.net", replica_set=None), Role.READER))
    assert found["nodelist"] == [("db.example.net", 27017)]
    assert found["options"]["directConnection"] is True
    assert "replicaSet" not in found["options"]


def test_srv_records_are_looked_up_by_name() -> None:
    text = client.uri(configured(host="cluster.example.net", srv=True), Role.WRITER)
    assert text == "mongodb+srv://w:p%40ss%3Aw%2Frd%25@cluster.example.net/?authSource=admin"


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER])
def test_an_uri_with_an_account_is_used_as_it_is(role: Role) -> None:
    own = "mongodb://me:secret@one.example.net,two.example.net/?replicaSet=x"
    assert client.uri(configured(uri=own), role) == own


def test_an_uri_without_an_account_gets_that_of_the_role() -> None:
    settings = configured(uri="mongodb://one.example.net:1,two.example.net:2/?replicaSet=x&appname=a@b")
    found = parse_uri(client.uri(settings, Role.WRITER))
    assert (found["username"], found["password"]) == ("w", "p@ss:w/rd%")
    assert found["nodelist"] == [("one.example.net", 1), ("two.example.net", 2)]


def test_acknowledged_writes_are_in_the_journal_of_a_majority(
    mongo: MongoClient[dict[str, Any]], settings: Settings
) -> None:
    for database in (client.data_database(mongo, settings), client.system_database(mongo, settings)):
        concern = database["c"].write_concern.document
        assert concern["w"] == "majority"
        assert concern["j"] is True
        assert database["c"].insert_one({"_id": 1}).acknowledged
    assert client.data_database(mongo, settings).name == settings.database.db
    assert client.system_database(mongo, settings).name == f"{settings.database.db}_system"
