"""What users send besides plain JSON: Python literals as text, and Extended JSON."""

from __future__ import annotations

import ast
from typing import Any

import orjson
from bson import json_util

from kowalski.archive.filters import UNREADABLE

MAX_LITERAL = 1 << 20
"""Characters of a Python literal that is parsed."""
MAX_DEPTH = 100
"""Levels of nesting that MongoDB accepts."""

# Operators such as $regex share names with older forms of Extended JSON, and $code is a program: those stay as they
# are.
_NUMBERS = {"$numberLong", "$numberInt", "$numberDouble", "$numberDecimal"}
_TYPES = _NUMBERS | {"$oid", "$date", "$binary", "$uuid", "$regularExpression", "$timestamp", "$minKey", "$maxKey"}


def parse_literal(value: Any) -> Any:
    """Parse a text that holds JSON or a Python literal; anything but text is returned as it is.

    Raises
    ------
    ValueError
        If the text is neither, or too long.
    """
    if not isinstance(value, str):
        return value
    if len(value) > MAX_LITERAL:
        raise ValueError(f"a text of more than {MAX_LITERAL} characters is not parsed; send JSON instead")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"neither JSON nor a Python literal: {value[:100]!r}") from error


def decode_extended(value: Any, depth: int = 0) -> Any:
    """Turn Extended JSON such as ``{"$oid": …}`` into what it stands for, at any depth.

    Raises
    ------
    ValueError
        If a value doesn't fit its type, or the nesting is deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        return [decode_extended(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)) in _TYPES:
        try:
            return json_util.object_hook(value)
        except UNREADABLE as error:
            raise ValueError(f"not valid Extended JSON: {value}") from error
    return {key: decode_extended(item, depth + 1) for key, item in value.items()}
