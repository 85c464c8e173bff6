"""Comma-separated values (RFC 4180) with a header line.

Numbers and texts are written as they are, dates as ISO 8601 in UTC, bytes as base64, a missing value and null as
nothing, and whatever else as relaxed Extended JSON.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from bson import DatetimeMS, ObjectId
from pybase64 import b64encode_as_string

from kowalski.api import extjson
from kowalski.api.formats import tables
from kowalski.api.formats.encoder import SLICE, Encoder
from kowalski.api.formats.tables import Row
from kowalski.api.results import Result

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"


async def pieces(message: str, result: Result, encoder: Encoder) -> AsyncGenerator[bytes]:
    """Write a result as CSV."""
    async with tables.collected(result, encoder) as table:
        columns = list(table.columns)
        if columns:
            yield _write([columns])
        while text := await encoder.run(lambda: _write_rows(columns, table.read(SLICE)), SLICE):
            yield text


def _write_rows(columns: list[str], rows: list[Row]) -> bytes:
    return _write([_cell(row.get(name)) for name in columns] for row in rows)


def _write(lines: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or type(value) in (str, float, int):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | ObjectId):
        return str(value)
    if type(value) is bytes:
        return b64encode_as_string(value)
    if isinstance(value, DatetimeMS):
        return _date(value)
    return tables.as_json(value)


def _date(value: DatetimeMS) -> str | int:
    date = value.as_datetime(extjson.OPTIONS)
    if isinstance(date, datetime):
        return date.isoformat(timespec="milliseconds") + "Z"
    return int(value)  # beyond the years 1-9999: milliseconds since 1970
