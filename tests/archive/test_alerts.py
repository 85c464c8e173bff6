"""Alerts on a real MongoDB: written once, whatever is repeated; a fault is not taken for a repetition."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from kowalski.archive import alerts, client
from kowalski.config import Settings

Document = dict[str, Any]


@pytest.fixture
def collection(mongo: MongoClient[Document], settings: Settings) -> Collection[Document]:
    return client.data_database(mongo, settings)["ZTF_alerts"]


def test_what_is_there_stays_and_is_named(collection: Collection[Document]) -> None:
    assert alerts.insert_new(collection, []) == set()
    assert alerts.insert_new(collection, [{"_id": 1, "n": 1}, {"_id": 2**62, "n": 1}]) == set()
    assert alerts.insert_new(collection, [{"_id": i, "n": 2} for i in (3, 1, 2**62, 4)]) == {1, 2**62}
    assert alerts.insert_new(collection, [{"_id": 5, "n": 3}, {"_id": 5, "n": 4}]) == {5}
    assert {found["_id"]: found["n"] for found in collection.find()} == {1: 1, 2**62: 1, 3: 2, 4: 2, 5: 3}


def test_a_refused_document_is_no_repetition(collection: Collection[Document]) -> None:
    """What a validator refuses is raised, although another document of the same call was there already."""
    database = collection.database
    database.create_collection("strict", validator={"n": {"$type": "number"}})
    alerts.insert_new(database["strict"], [{"_id": 1, "n": 1}])
    with pytest.raises(BulkWriteError):
        alerts.insert_new(database["strict"], [{"_id": 1, "n": 1}, {"_id": 2, "n": "one"}, {"_id": 3, "n": 3}])
    assert database["strict"].count_documents({}) == 2  # the third was stored all the same


def test_owners_of_stored_alerts(collection: Collection[Document]) -> None:
    collection.insert_many([{"_id": 1, "objectId": "a", "x": 1}, {"_id": 2, "objectId": "b"}])
    assert alerts.owners(collection, [1, 2, 3], "objectId") == {1: "a", 2: "b"}
    assert alerts.owners(collection, [], "objectId") == {}
