"""Histories of an object: rows of one key are one measurement, and a fixed order decides which of them stays.

`kowalski.archive.objects` lets MongoDB apply the same rules to stored rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from operator import lt
from typing import Any

from bson.int64 import Int64

from kowalski.surveys.base import History

Row = dict[str, Any]
Rank = tuple[Any, ...]

# MongoDB's order of types, for those that measurements have.
_NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BYTES, _BOOL, _DATE = 5, 10, 15, 20, 25, 30, 40, 45
_NAN = _NUMBER, (0, 0)
_PLAIN = frozenset({int, float, Int64, str, bytes, type(None)})


def merge(history: History, rows: Iterable[Row]) -> list[Row]:
    """Keep one row per key, the one that ranks first, and sort by key.

    The result does not depend on the order of ``rows``, and merging it again changes nothing.
    """
    sent = list(rows)
    if _ascends(history, sent):
        return sent
    kept: dict[Rank, Row] = {}
    for row in sent:
        key = sort_key(history, row)
        known = kept.get(key)
        if known is None or _replaces(history, row, known):
            kept[key] = row
    return [kept[key] for key in sorted(kept)]


def _ascends(history: History, rows: list[Row]) -> bool:
    """Whether the first field of the key alone tells that all keys differ and are in order: most packets are so."""
    name = history.key[0]
    values: list[Any] = [row.get(name) for row in rows]
    return set(map(type, values)) == {float} and all(map(lt, values, islice(values, 1, None)))


def sort_key(history: History, row: Row) -> Rank:
    """Where ``row`` belongs in its history; rows of one key, and only they, have the same place."""
    # Written out, because it is asked of every row, and nearly all values are numbers.
    return tuple(
        [
            (_NUMBER, (1, value)) if (type(value) is float or type(value) is int) and value == value else _scalar(value)
            for value in map(row.get, history.key)
        ]
    )


def news(history: History, stored: Iterable[Row], rows: Iterable[Row]) -> list[Row]:
    """Keep those of ``rows`` (one per key) that would change ``stored``: of a new key, or ranking before the stored."""
    known = {sort_key(history, row): row for row in stored}
    fresh: list[Row] = []
    for row in rows:
        present = known.get(sort_key(history, row))
        if present is None or _replaces(history, row, present):
            fresh.append(row)
    return fresh


def _replaces(history: History, row: Row, present: Row) -> bool:
    """Whether ``row`` ranks before ``present``, a row of its key; that they are equal is the usual case."""
    if row is present:
        return False
    # For Python True is 1 and the order of fields does not count; for MongoDB it is otherwise. (How a number is
    # stored counts for neither: 64-bit integers come back from MongoDB as a type of their own.)
    if row == present and list(row) == list(present) and _flags(row) == _flags(present):
        return False
    return _rank(history, row) < _rank(history, present)


def _flags(row: Row) -> list[str | None]:
    """What tells values apart that are equal for Python: truth values, and what may hold some."""
    return [None if type(value) in _PLAIN else repr(value) for value in row.values()]


def _rank(history: History, row: Row) -> Rank:
    return (*(_scalar(row.get(name)) for name in history.prefer), _content(row))


def _content(row: Row) -> Rank:
    """Order documents as MongoDB does: field by field, by type, then name, then value."""
    return tuple((kind, name, value) for name, (kind, value) in ((name, _scalar(value)) for name, value in row.items()))


def _scalar(value: Any) -> tuple[int, Any]:
    """Order values as MongoDB does; NaN comes before all numbers, bytes and text before longer ones."""
    kind = type(value)
    if kind is float or kind is int:  # nearly all are, and this is asked of every row
        return (_NUMBER, (1, value)) if value == value else _NAN
    match value:
        case None:
            return _NULL, 0
        case bool():
            return _BOOL, value
        case int() | float():
            return (_NUMBER, (1, value)) if value == value else _NAN
        case str():
            return _STRING, value.encode()
        case bytes():
            return _BYTES, (len(value), value)
        case datetime():
            return _DATE, value.replace(tzinfo=value.tzinfo or UTC)
        case dict():
            return _OBJECT, _content(value)
        case list() | tuple():
            return _ARRAY, tuple(map(_scalar, value))
    raise TypeError(f"a measurement can't hold a {type(value).__name__}")
