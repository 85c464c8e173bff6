"""What a message of a stranger may make of itself in memory, found in its schema before anything is decoded.

Avro lets a few bytes stand for very much: items without content cost none at all, a record of one number is a byte in
the message and 250 in Python, and a schema that contains itself nests as deep as the message likes, which ends the
process that follows it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kowalski.surveys.base import PacketError

MAX_OBJECTS = 4_000_000_000
"""Bytes that the objects of one message may take at most; the bound is loose, they take less than half of it."""

DICT_BYTES, ENTRY_BYTES, SLOT_BYTES = 150, 50, 8
"""CPython's dict: itself, and per key with the gaps of its table; a list's slot."""


class Bulk(NamedTuple):
    """Of a value: its smallest size in a message, bytes, and how many bytes of objects each byte may become."""

    width: int
    ratio: float


PLAIN = {
    "null": Bulk(0, 0.0),
    "boolean": Bulk(1, 0.0),
    "int": Bulk(1, 32.0),
    "long": Bulk(1, 32.0),
    "float": Bulk(4, 6.0),
    "double": Bulk(8, 3.0),
    "bytes": Bulk(1, 50.0),
    "string": Bulk(1, 60.0),
}


def ratio(schema: Any) -> float:
    """Find how many bytes of objects a byte of a message may become.

    Parameters
    ----------
    schema
        As ``fastavro.parse_schema`` gives it.

    Raises
    ------
    PacketError
        If nothing bounds that: the schema contains itself, or has records or items without content.
    """
    bulk = _bulk(schema, {}, frozenset())
    if bulk.width == 0:
        raise PacketError("its schema is of records without content")
    return bulk.ratio


def check(size: int, ratio: float) -> None:
    """Refuse a message of ``size`` bytes that might take too much memory."""
    if size * ratio > MAX_OBJECTS:
        raise PacketError(f"its {size} bytes may become {size * ratio / 1e9:.1f} GB of objects, by its schema")


def _bulk(schema: Any, named: dict[str, Bulk], around: frozenset[str]) -> Bulk:
    if isinstance(schema, list):
        branches = [_bulk(branch, named, around) for branch in schema]
        return Bulk(
            1 + min((one.width for one in branches), default=0), max((one.ratio for one in branches), default=0)
        )
    if isinstance(schema, str):
        if schema in around:
            raise PacketError(f"its schema contains itself: {schema}")
        return PLAIN[schema] if schema in PLAIN else named[schema]
    kind = schema["type"]
    if kind in ("record", "error"):
        return _record(schema, named, around)
    if kind in ("array", "map"):
        return _items(schema, kind, named, around)
    if kind in ("enum", "fixed"):
        size = schema.get("size", 1)
        named[schema["name"]] = Bulk(size, (size + PLAIN["bytes"].ratio) / max(size, 1))
        return named[schema["name"]]
    return _bulk(kind, named, around)


def _record(schema: Any, named: dict[str, Bulk], around: frozenset[str]) -> Bulk:
    name = schema["name"]
    parts = [_bulk(field["type"], named, around | {name}) for field in schema["fields"]]
    width = sum(part.width for part in parts)
    own = DICT_BYTES + ENTRY_BYTES * len(parts)
    named[name] = Bulk(width, own / max(width, 1) + max((part.ratio for part in parts), default=0.0))
    return named[name]


def _items(schema: Any, kind: str, named: dict[str, Bulk], around: frozenset[str]) -> Bulk:
    item = _bulk(schema["items" if kind == "array" else "values"], named, around)
    if kind == "map":
        return Bulk(1, PLAIN["string"].ratio + ENTRY_BYTES + item.ratio)
    if item.width == 0:
        raise PacketError("its schema has an array of items without content")
    return Bulk(1, SLOT_BYTES / item.width + item.ratio)
