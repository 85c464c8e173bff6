"""One JSON object with everything in it: ``{"status": "success", "message": …, "data": …}``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import orjson

from kowalski.api import extjson
from kowalski.api.formats.encoder import Encoder, Part, Text, cut, items
from kowalski.api.results import Batch, Match, Matches, Result, Rows, Value

CONTENT_TYPE = "application/json; charset=utf-8"


async def pieces(message: str, result: Result, encoder: Encoder) -> AsyncGenerator[bytes]:
    """Write a result as pieces of the envelope."""
    start = extjson.dumps({"status": "success", "message": message})[:-1]
    match result:
        case Value(data):
            yield start + (b"}" if data is None else b',"data":' + extjson.dumps(data) + b"}")
            return
        case Rows(batches):
            parts = _rows(batches)
        case Matches():
            parts = _matches(result)
    yield start + b',"data":'
    async for piece in encoder.encode(parts, _write):
        yield piece
    yield b"}"


def _write(parts: list[Part]) -> Text:
    joined: list[bytes] = []
    rows = 0
    for before, batch in parts:
        text, count = items(batch)
        rows += count
        joined += [before, text]
    return b"".join(joined), rows


async def _rows(batches: AsyncIterator[Batch]) -> AsyncGenerator[Part]:
    before = b"["
    async for batch in batches:
        for part in cut(batch):
            yield before, part
            before = b","
    yield (b"[]" if before == b"[" else b"]"), b""


async def _matches(result: Matches) -> AsyncGenerator[Part]:
    last: Match | None = None
    waiting = list(result.catalogs)
    before, comma = b"{", b""
    async for match in result.found:
        if last is None or match.catalog != last.catalog:
            empty = waiting[: waiting.index(match.catalog)]
            before += (b"" if last is None else b"]},") + _without_objects(empty) + b"," * bool(empty)
            before += orjson.dumps(match.catalog) + b":{"
            waiting = waiting[len(empty) + 1 :]
        elif match.object != last.object:
            before += b"],"
        if last is None or (match.catalog, match.object) != (last.catalog, last.object):
            before, comma = before + orjson.dumps(match.object) + b":[", b""
        for part in cut(match.documents):
            yield before + comma, part
            before, comma = b"", b","
        yield before, b""
        before, last = b"", match
    before += b"" if last is None else b"]}" + b"," * bool(waiting)
    yield before + _without_objects(waiting) + b"}", b""


def _without_objects(catalogs: Sequence[str]) -> bytes:
    return b",".join(orjson.dumps(name) + b":{}" for name in catalogs)
