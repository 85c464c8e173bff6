"""MongoDB's relaxed Extended JSON (v2), encoded fast.

What `dumps` and `encode` write decodes to the same values as what `bson.json_util.dumps` writes:
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import bson
import orjson
from bson import Int64, ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.json_util import RELAXED_JSON_OPTIONS
from pybase64 import b64encode

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    # Dates outside the years 1-9999 exist in BSON; they come as milliseconds instead of as an error.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

# Code is a str and Int64 an int by inheritance: orjson must not take them for such.
_FLAGS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS

# orjson writes null for a NaN and an infinity. A BSON element that holds one: type 1, name, a double whose exponent
# has all bits set. Other bytes may look like one by chance, which costs time and nothing else.
_NOT_FINITE = re.compile(rb"\x01[^\x00]*\x00.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)


def dumps(value: Any) -> bytes:
    """Encode a value that consists of what BSON can hold.

    Raises
    ------
    TypeError
        If a part of it is nothing that BSON can hold.
    """
    text = orjson.dumps(value, _default, _FLAGS)
    return orjson.dumps(_mark_not_finite(value), _default, _FLAGS) if b"null" in text else text


def split(batch: bytes) -> Iterator[bytes]:
    """Cut a batch of BSON documents into its documents."""
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + 4], "little")
        yield batch[start:end]
        start = end


def encode(raw: bytes) -> bytes:
    """Encode a document as the server sends it, in BSON."""
    document = bson.decode(raw, OPTIONS)
    text = orjson.dumps(document, _default, _FLAGS)
    if b"null" in text and _NOT_FINITE.search(raw):
        return orjson.dumps(_mark_not_finite(document), _default, _FLAGS)
    return text


def _default(value: Any) -> Any:
    kind = type(value)
    if kind is Int64:
        return int(value)
    if kind is bytes:
        return orjson.Fragment(b'{"$binary":{"base64":"' + b64encode(value) + b'","subType":"00"}}')
    if kind is ObjectId:
        return {"$oid": str(value)}
    if kind is datetime and value.tzinfo is None and value.year >= 1970:
        return {"$date": value.isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"}
    if isinstance(value, dict):
        return dict(value)
    return json_util.default(value, RELAXED_JSON_OPTIONS)


def _mark_not_finite(value: Any) -> Any:
    """Copy ``value`` with each NaN and infinity as Extended JSON writes it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else json_util.default(value, RELAXED_JSON_OPTIONS)
    if isinstance(value, dict):
        return {key: _mark_not_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mark_not_finite(item) for item in value]
    return value
