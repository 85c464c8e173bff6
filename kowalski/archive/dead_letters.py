"""Packets that could not be processed: kept with their bytes and the reason, until replayed or dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import DeleteOne, UpdateOne
from pymongo.collection import Collection

from kowalski.archive.client import Document

LARGEST = 15 * 1024 * 1024
"""Bytes of a packet that are kept: a MongoDB document holds 16 MB."""


def letter_id(topic: str, partition: int, offset: int, record: int | None = None) -> dict[str, Any]:
    """Build the ``_id`` of a dead letter: where the packet lies in Kafka and, in a message of several, its number."""
    where: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
    return where if record is None else {**where, "record": record}


def write(
    letters: Collection[Document], survey: str, refused: Iterable[tuple[Mapping[str, Any], int, bytes, str, str]]
) -> None:
    """Keep refused packets; one that is kept already stays as it is.

    Parameters
    ----------
    refused
        For each packet: its `letter_id`, Kafka timestamp (ms), bytes, the stage that refused it, and the reason.
    """
    operations = [
        UpdateOne(
            {"_id": dict(where)},
            {
                "$setOnInsert": {
                    "survey": survey,
                    "stage": stage,
                    "reason": reason,
                    "kafka_timestamp": timestamp,
                    "at": datetime.now(UTC),
                    "size": len(value),
                    "value": value[:LARGEST],
                }
            },
            upsert=True,
        )
        for where, timestamp, value, stage, reason in refused
    ]
    for operation in operations:  # one by one: together they may exceed what one message holds
        letters.bulk_write([operation])


def listing(letters: Collection[Document], survey: str | None = None, limit: int = 0) -> list[Document]:
    """List dead letters, newest first, without their bytes."""
    match = {} if survey is None else {"survey": survey}
    return list(letters.find(match, {"value": 0}).sort("at", -1).limit(limit))


def remove(letters: Collection[Document], ids: Sequence[Mapping[str, Any]]) -> int:
    """Remove dead letters that have been processed after all; returns how many there were."""
    if not ids:
        return 0
    return int(letters.bulk_write([DeleteOne({"_id": dict(where)}) for where in ids], ordered=False).deleted_count)
