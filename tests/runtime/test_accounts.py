from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from kowalski.archive.client import Role, connect, data_database
from kowalski.config import Settings
from kowalski.runtime import accounts, mongod
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services


@pytest.fixture
def reader(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Iterator[MongoClient[dict[str, Any]]]:
    data_database(mongo, settings)["things"].insert_one({"_id": 1})
    with connect(settings, Role.READER) as client:
        yield client


def test_reader_reads_data_only(reader: MongoClient[dict[str, Any]], settings: Settings) -> None:
    data, system = settings.database.db, settings.database.system_db
    assert reader[data]["things"].count_documents({}) == 1
    assert reader[data].list_collection_names() == ["things"]
    with pytest.raises(OperationFailure, match="not authorized"):
        reader[data]["things"].insert_one({})
    with pytest.raises(OperationFailure, match="not authorized"):
        reader[system]["users"].find_one()
    with pytest.raises(OperationFailure, match=r"not authorized|not supported"):
        list(reader[data]["things"].aggregate([{"$lookup": {"from": {"db": system, "coll": "users"}, "as": "x"}}]))
    with pytest.raises(OperationFailure, match="not authorized"):
        list(reader[data]["things"].aggregate([{"$out": "copied"}]))


def test_writer_sees_no_other_database(mongo: MongoClient[dict[str, Any]]) -> None:
    with pytest.raises(OperationFailure, match="not authorized"):
        mongo["admin"]["system.users"].find_one()
    with pytest.raises(OperationFailure, match="not authorized"):
        mongo["elsewhere"]["things"].insert_one({})


def test_no_scripts_run(reader: MongoClient[dict[str, Any]], settings: Settings) -> None:
    with pytest.raises(OperationFailure, match=r"[Ss]cript"):
        reader[settings.database.db]["things"].find_one({"$where": "true"})


def test_again_corrects_passwords_and_roles(mongo: MongoClient[dict[str, Any]], settings: Settings) -> None:
    with connect(settings, Role.ADMIN) as admin:
        admin.admin.command("updateUser", settings.database.query_username, pwd="other", roles=[])
    mongod.prepare(settings)
    mongod.prepare(settings)
    with connect(settings, Role.READER) as client:
        assert client[settings.database.db].list_collection_names() == []


def test_external_server_gets_accounts_from_its_admin(mongo: MongoClient[dict[str, Any]], settings: Settings) -> None:
    accounts.drop_accounts(settings)
    settings.database.host = "127.0.0.1"
    mongod.prepare(settings)
    for role in (Role.WRITER, Role.READER):
        with connect(settings, role) as client:
            client[settings.database.db].list_collection_names()


def test_external_server_without_admin_names_the_missing_account(
    mongo: MongoClient[dict[str, Any]], settings: Settings
) -> None:
    external = settings.model_copy(deep=True)
    external.database.uri = f"mongodb://127.0.0.1:{settings.database.port}/?replicaSet=rs0"
    external.database.admin_password = "unknown"
    mongod.prepare(external)
    external.database.query_password = "wrong"
    with pytest.raises(ServiceError, match=r"refuses database\.query_username.*database\.admin_username") as caught:
        mongod.prepare(external)
    assert "wrong" not in str(caught.value)


def test_unreachable_servers_are_named_without_credentials(settings: Settings) -> None:
    settings.database.port = services.free_ports(1)[0]
    with pytest.raises(ServiceError, match=rf"{settings.database.port} \(database.port\) within 0.3 s.*mongod.log"):
        mongod.prepare(settings, timeout=0.3)
    settings.database.uri = f"mongodb://someone:secret@127.0.0.1:{settings.database.port}/"
    with pytest.raises(ServiceError, match=r"does not answer at mongodb://127\.0\.0\.1") as caught:
        mongod.prepare(settings, timeout=0.3)
    assert "secret" not in str(caught.value)
    settings.database.uri = "nonsense"
    with pytest.raises(ServiceError, match=r"database\.uri or database\.host can't be used"):
        mongod.prepare(settings, timeout=0.3)


def test_life_of_an_embedded_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Killed, moved to another port, and asked with another password: one server goes through all of it."""
    settings = services.new_settings(tmp_path_factory.mktemp("own"))
    process = services.start_mongod(settings)
    try:
        with connect(settings) as client:
            data_database(client, settings)["things"].insert_many([{"_id": number} for number in range(1000)])
        process.kill()
        process = services.start_mongod(settings)
        process.stop()
        settings.database.port = services.free_ports(1)[0]
        process = services.start_mongod(settings)
        with connect(settings) as client:
            assert data_database(client, settings)["things"].count_documents({}) == 1000
        settings.database.admin_password = "other"
        with pytest.raises(ServiceError, match=r"another password than database\.admin_password.*secrets\.json"):
            mongod.prepare(settings)
    finally:
        process.stop()
