"""Dead letters on a real MongoDB: kept once, as they came, listed without their bytes."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from kowalski.archive import client, dead_letters, indexes, names
from kowalski.config import Settings

Document = dict[str, Any]


@pytest.fixture
def letters(mongo: MongoClient[Document], settings: Settings) -> Collection[Document]:
    system = client.system_database(mongo, settings)
    indexes.ensure_system(system)
    indexes.ensure_system(system)  # safe to repeat
    return system[names.DEAD_LETTERS]


def refused(offset: int, value: bytes = b"\x00bytes", reason: str = "odd") -> tuple[Document, int, bytes, str, str]:
    return dead_letters.letter_id("ztf_20231012_programid1", 3, offset), 1_700_000_000_000, value, "decode", reason


def test_a_letter_says_where_what_and_why(letters: Collection[Document]) -> None:
    dead_letters.write(letters, "ZTF", [refused(7)])
    found = letters.find_one()
    assert found is not None
    assert found.pop("at") is not None
    assert found == {
        "_id": {"topic": "ztf_20231012_programid1", "partition": 3, "offset": 7},
        "survey": "ZTF",
        "stage": "decode",
        "reason": "odd",
        "kafka_timestamp": 1_700_000_000_000,
        "size": 6,
        "value": b"\x00bytes",
    }


def test_a_letter_is_kept_once_as_it_was_first(letters: Collection[Document]) -> None:
    dead_letters.write(letters, "ZTF", [refused(7), refused(8)])
    before = list(letters.find())
    dead_letters.write(letters, "ZTF", [refused(7, reason="odder"), refused(7), refused(8)])
    assert list(letters.find()) == before


def test_letters_larger_than_a_document_or_a_message_are_kept(letters: Collection[Document]) -> None:
    """Of a packet of 17 MB its beginning; several large ones at once are no problem."""
    value = bytes(17 * 1024 * 1024)
    dead_letters.write(letters, "ZTF", [refused(offset, value) for offset in range(3)])
    assert [(found["size"], len(found["value"])) for found in letters.find()] == [
        (len(value), dead_letters.LARGEST)
    ] * 3


def test_letters_are_listed_newest_first_and_removed(letters: Collection[Document]) -> None:
    for offset in range(3):
        dead_letters.write(letters, "ZTF", [refused(offset)])
    dead_letters.write(letters, "OTHER", [refused(3)])
    for offset in range(4):
        letters.update_one({"_id.offset": offset}, [{"$set": {"at": {"$add": ["$at", 1000 * offset]}}}])
    assert [found["_id"]["offset"] for found in dead_letters.listing(letters)] == [3, 2, 1, 0]
    assert [found["_id"]["offset"] for found in dead_letters.listing(letters, "ZTF", limit=2)] == [2, 1]
    assert all("value" not in found for found in dead_letters.listing(letters))
    assert dead_letters.remove(letters, []) == 0
    assert dead_letters.remove(letters, [refused(offset)[0] for offset in (0, 2, 99)]) == 2
    assert [found["_id"]["offset"] for found in dead_letters.listing(letters)] == [3, 1]
