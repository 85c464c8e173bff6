from __future__ import annotations

from typing import Any

import bson
import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import AutoReconnect, WriteConcernError
from pymongo.write_concern import WriteConcern

from kowalski.archive import client
from kowalski.config import Settings
from kowalski.ingesters.writing import Mode, write

Mongo = MongoClient[dict[str, Any]]


class Sent(monitoring.CommandListener):
    """Counts the inserts that were sent."""

    def __init__(self) -> None:
        self.inserts = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.inserts += event.command_name == "insert"

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def collection(settings: Settings, mongo: Mongo, sent: Sent) -> Any:
    with client.connect(settings, event_listeners=[sent]) as connection:
        yield client.data_database(connection, settings)["trial"]


def document(_id: int, size: int = 10) -> bytes:
    return bson.encode({"_id": _id, "text": "x" * size})


def test_a_batch_that_is_too_large_for_one_command_is_cut(collection: Any, sent: Sent) -> None:
    documents = [document(0, 7 << 20), document(1, 7 << 20), document(2), document(3, 14 << 20), document(4)]
    assert write(collection, documents, Mode.INSERT).new == 5
    assert sent.inserts == 4
    assert [one["_id"] for one in collection.find({}, {"_id": 1}).sort("_id")] == [0, 1, 2, 3, 4]


def test_what_is_there_is_told_by_its_place_in_the_whole_batch(collection: Any) -> None:
    collection.insert_many([bson.decode(document(2)), bson.decode(document(3, 20))])
    written = write(collection, [document(1, 13 << 20), document(2), document(3), document(4)], Mode.INSERT)
    assert (written.new, written.present) == (2, 1)
    assert written.refused == [(2, "another row has its _id 3")]


def test_a_lost_answer_costs_and_doubles_nothing(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = type(collection.database)
    send, lost = database.command, [AutoReconnect("connection closed")]

    def unlucky(self: Any, command: Any, *arguments: Any, **options: Any) -> Any:
        answer = send(self, command, *arguments, **options)
        if "insert" in command and lost:
            raise lost.pop()
        return answer

    monkeypatch.setattr(database, "command", unlucky)
    written = write(collection, [document(1), document(2)], Mode.INSERT)
    assert (written.new, written.present, written.refused) == (0, 2, [])
    assert collection.count_documents({}) == 2


def test_rows_that_are_not_durable_are_not_stored(collection: Any) -> None:
    hasty = collection.with_options(write_concern=WriteConcern(w=2, wtimeout=1))
    with pytest.raises(WriteConcernError):
        write(hasty, [document(1)], Mode.INSERT)
