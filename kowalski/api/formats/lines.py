"""Newline-delimited JSON: one document of relaxed Extended JSON per line, and nothing around it.

What was found around positions has ``_catalog`` and ``_object`` in front; an object without matches has no line.
If an answer breaks off, its last line is ``{"$error": message}``: a name that no stored document can have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from kowalski.api import extjson
from kowalski.api.formats.encoder import Encoder, Part, Text, cut, texts
from kowalski.api.results import Batch, Matches, Result, Rows, Value

CONTENT_TYPE = "application/x-ndjson"


async def pieces(message: str, result: Result, encoder: Encoder) -> AsyncGenerator[bytes]:
    """Write a result as lines."""
    match result:
        case Value(data):
            if data is not None:
                yield extjson.dumps(data) + b"\n"
            return
        case Rows(batches):
            parts = _rows(batches)
        case Matches():
            parts = _matches(result)
    async for piece in encoder.encode(parts, _write):
        yield piece


def trailer(message: str) -> bytes:
    """Write the line that says why there are no more."""
    return extjson.dumps({"$error": message}) + b"\n"


def _write(parts: list[Part]) -> Text:
    lines: list[bytes] = []
    for start, batch in parts:
        encoded = texts(batch)
        lines += encoded if not start else [start + (b"}" if line == b"{}" else b"," + line[1:]) for line in encoded]
    return b"".join(line + b"\n" for line in lines), len(lines)


async def _rows(batches: AsyncIterator[Batch]) -> AsyncGenerator[Part]:
    async for batch in batches:
        for part in cut(batch):
            yield b"", part


async def _matches(result: Matches) -> AsyncGenerator[Part]:
    async for match in result.found:
        names = {"_catalog": match.catalog, "_object": match.object}
        for part in cut(match.documents):
            yield extjson.dumps(names)[:-1], part
