"""MongoDB's relaxed Extended JSON (v2), encoded fast.

What `dumps` and `encode` write decodes to the same values as what `bson.json_util.dumps` writes:
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import bson
import orjson
from bson import Int64, ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.json_util import RELAXED_JSON_OPTIONS
from bson.raw_bson import RawBSONDocument
from pybase64 import b64encode

from kowalski.api import transcoder

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    # Dates outside the years 1-9999 exist in BSON; they come as milliseconds instead of as an error.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

# Code is a str and Int64 an int by inheritance: orjson must not take them for such.
_FLAGS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS

_QUOTE = ord('"')
_OBJECT = b'{"'
_BINARY = _OBJECT + b'$binary":{"base64":"'


def dumps(value: Any) -> bytes:
    """Encode a value that consists of what BSON can hold.

    Raises
    ------
    TypeError
        If a part of it is nothing that BSON can hold.
    """
    text = _write(value)
    return _write(_mark_not_finite(value)) if _has_null(text) and _holds_not_finite(value) else text


def encode(batch: bytes) -> list[bytes]:
    """Encode documents as the server sends them: BSON, one after the other; gives the text of each."""
    found = []
    for text, ends in _texts(batch):
        starts = [0, *(end + 1 for end in ends)]
        found += [text[start:end] for start, end in zip(starts, ends, strict=False)]
    return found


def encode_items(batch: bytes) -> tuple[bytes, int]:
    """Encode documents as the server sends them as items of a list, with commas between; tells how many there are."""
    found = list(_texts(batch))
    return b",".join(text for text, _ in found), sum(len(ends) for _, ends in found)


def _texts(batch: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Encode documents; gives texts of several with commas between, and where in it each of them ends."""
    start = 0
    while start < len(batch):
        start, text, ends = transcoder.texts(batch, start)
        if ends:
            yield text, ends
        if start < len(batch):
            end = start + int.from_bytes(batch[start : start + 4], "little")
            rare = dumps(bson.decode(batch[start:end], OPTIONS))
            yield rare, [len(rare)]
            start = end


def _write(value: Any) -> bytes:
    """Write JSON, with null for each NaN and infinity."""
    return orjson.dumps(value, _default, _FLAGS)


def _has_null(text: bytes) -> bool:
    """Whether JSON may have a null that is neither the text "null" (every ZTF alert has one) nor part of a stamp."""
    start = 0
    while start < len(text):
        dollar = text.find(b"$", start)
        end = dollar if dollar >= 0 else len(text)
        found = text.find(b"null", start, end)
        while found >= 0:
            if text[found - 1] != _QUOTE or text[found + 4] != _QUOTE:
                return True
            found = text.find(b"null", found + 4, end)
        is_binary = text.startswith(_BINARY, end - len(_OBJECT))
        start = text.index(b'"', end - len(_OBJECT) + len(_BINARY)) if is_binary else end + 1
    return False


def split(batch: bytes) -> Iterator[bytes]:
    """Cut a batch of BSON documents into its documents."""
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + 4], "little")
        yield batch[start:end]
        start = end


def _default(value: Any) -> Any:
    kind = type(value)
    if kind is Int64:
        return int(value)
    if kind is bytes:
        return orjson.Fragment(_BINARY + b64encode(value) + b'","subType":"00"}}')
    if kind is ObjectId:
        return {"$oid": str(value)}
    if kind is datetime and value.tzinfo is None and value.year >= 1970:
        return {"$date": value.isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"}
    if kind is RawBSONDocument:
        return orjson.Fragment(encode(value.raw)[0])
    if not isinstance(value, dict):
        value = json_util.default(value, RELAXED_JSON_OPTIONS)
    return _mark_not_finite(value)  # what is inside of references and code with a scope nobody has looked at


def _holds_not_finite(value: Any) -> bool:
    """Whether there is a NaN or an infinity in ``value``."""
    kind = type(value)
    if kind is dict:
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return isinstance(value, float) and not math.isfinite(value)
    for item in items:  # the tight loop of all that is not encoded from BSON
        kind = type(item)
        if kind is float:
            if item - item != 0.0:  # true of those alone
                return True
        elif (kind is dict or kind is list or kind is tuple) and _holds_not_finite(item):
            return True
    return False


def _mark_not_finite(value: Any) -> Any:
    """Copy ``value`` with each NaN and infinity as Extended JSON writes it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else json_util.default(value, RELAXED_JSON_OPTIONS)
    if isinstance(value, dict):
        return {key: _mark_not_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mark_not_finite(item) for item in value]
    return value
