"""Documents by their key, for many requests at once.

Services ask for alerts one by one, from many clients at a time. Those that come while MongoDB answers the ones before
are asked together, as one query; nobody waits for that, and a query costs more than a document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.collection import AsyncCollection

from kowalski.api import extjson, reading
from kowalski.api.gathering import Gathering
from kowalski.archive.client import Document
from kowalski.config.settings import Database

TOGETHER = 100
"""Keys in one query at most."""

OPTIONS = extjson.OPTIONS.with_options(document_class=RawBSONDocument)

Key = int | str


@dataclass(frozen=True, slots=True)
class Kind:
    """What requests have in common that are answered together.

    Attributes
    ----------
    field
        The field with the key.
    projection, guard
        The projection and the condition for what the user sees, as JSON.
    user
        Whose requests they are, as it stands in MongoDB's log.
    """

    collection: str
    field: str
    projection: bytes
    guard: bytes
    user: str
    max_time_ms: int


class Lookups:
    """Reads documents by a field that identifies them: ``_id``, and those with a unique index of their own."""

    def __init__(self, database: Database) -> None:
        self._fields = {
            name: {index.fields[0][0] for index in indexes if index.unique and len(index.fields) == 1}
            for name, indexes in database.indexes.items()
        }
        self._gathering: Gathering[Kind, Key, list[bytes]] = Gathering(TOGETHER)

    def key_of(self, collection: str, condition: Mapping[str, Any], projection: Any) -> tuple[str, Key] | None:
        """Find the field and the key that a condition asks for; None if it asks for anything else.

        The projection must leave the field in the documents: by it they are told apart.
        """
        if len(condition) != 1:
            return None
        ((name, key),) = condition.items()
        if name != "_id" and name not in self._fields.get(collection, ()):
            return None
        return (name, key) if _is_key(key) and _is_kept(name, projection) else None

    async def find(
        self, collection: AsyncCollection[Document], kind: Kind, key: Key, condition: Document, projection: Any
    ) -> list[bytes]:
        """Find the documents with a key; as BSON, as most are only sent on.

        Parameters
        ----------
        condition, projection
            What ``kind`` holds as JSON.
        """

        async def answer(keys: Sequence[Key]) -> dict[Key, list[bytes]]:
            match = {"$and": [condition, {kind.field: {"$in": list(keys)}}]}
            found = await _read(collection, kind, match, projection)
            return {each: found.get(each, []) for each in keys}

        return await self._gathering.ask(kind, key, answer)


async def _read(
    collection: AsyncCollection[Document], kind: Kind, match: Document, projection: Any
) -> dict[Key, list[bytes]]:
    cursor = collection.find_raw_batches(match, projection, max_time_ms=kind.max_time_ms, comment=kind.user)
    found: dict[Key, list[bytes]] = {}
    async for batch in reading.batches(cursor):
        for raw in extjson.split(batch):
            value = RawBSONDocument(raw, OPTIONS)[kind.field]  # which decodes no nested documents
            for key in set(filter(_is_key, value)) if isinstance(value, list) else (value,):
                found.setdefault(key, []).append(raw)
    return found


def _is_key(value: Any) -> bool:
    """Whether a value is a key that can be sent to MongoDB, and compared with those that come back."""
    if isinstance(value, str):
        return value.isascii()
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_kept(name: str, projection: Any) -> bool:
    if not projection:
        return True
    if not isinstance(projection, dict):
        return False
    if any(type(value) not in (int, bool) for value in projection.values()):
        return False
    named = {key: value for key, value in projection.items() if key != "_id"}
    includes = any((named or projection).values())  # of ``_id`` alone, too
    return bool(projection.get(name, name == "_id" or not includes))


def as_text(value: Any) -> bytes:
    """Write a condition or a projection so that equal ones are equal."""
    return orjson.dumps(value, str)
