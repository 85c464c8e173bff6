"""Documents as rows of a table: what CSV and Parquet share.

A table has its columns before its first row, and documents of one answer may differ. So all documents are read first,
into memory or, if they are many, a temporary file; only then anything is sent. Nested documents become columns with
dots in their names, lists stay what they are. What was found around positions has ``_catalog`` and ``_object`` in
front; an object without matches has no row.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import bson
from bson import DatetimeMS, Int64, ObjectId
from bson.codec_options import DatetimeConversion

from kowalski.api import extjson
from kowalski.api.errors import ApiError
from kowalski.api.formats.encoder import Encoder, cut, size_of
from kowalski.api.results import Batch, Matches, Result, Rows, Value
from kowalski.archive.client import Document

IN_MEMORY = 8 * 1024 * 1024
"""Bytes of BSON up to which documents are kept in memory."""

EXACT = 2**53
"""The largest integer up to which all can be held as floating-point numbers."""
OPTIONS = extjson.OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_MS)

Row = dict[str, Any]


class NotAcceptableError(ApiError):
    """An answer can't be given in the format that was asked for."""

    status = 406


class NoSpaceError(ApiError):
    """The disk is full."""

    status = 503

    def __init__(self) -> None:
        super().__init__("there is no space left for temporary files; application/x-ndjson needs none")

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": "60"}


@dataclass(slots=True)
class Table:
    """The documents of an answer, which can be read as rows again and again.

    Attributes
    ----------
    columns
        Names of the columns in the order in which they came, with the kinds of their values (see `kinds_of`).
    """

    store: IO[bytes]
    columns: dict[str, set[str]] = field(default_factory=dict)

    def add(self, head: bytes, batch: Batch) -> tuple[int, int]:
        """Add documents with the elements ``head`` in front of each; gives their number and bytes.

        Raises
        ------
        NoSpaceError
            If the disk is full.
        """
        raws = extjson.split(batch) if isinstance(batch, bytes) else map(bson.encode, batch)
        documents = [_with_head(head, raw) for raw in raws]
        for row in map(_flat, documents):
            for name, value in row.items():
                self.columns.setdefault(name, set()).update(kinds_of(value))
        try:
            return len(documents), self.store.write(b"".join(documents))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError from error
            raise

    def read(self, size: int) -> list[Row]:
        """Read the next rows, of about ``size`` bytes; none at the end."""
        rows: list[Row] = []
        while size > 0 and (length := self.store.read(4)):
            raw = length + self.store.read(int.from_bytes(length, "little") - 4)
            rows.append(_flat(raw))
            size -= len(raw)
        return rows


@asynccontextmanager
async def collected(result: Result, encoder: Encoder) -> AsyncGenerator[Table]:
    """Read all documents of a result.

    Raises
    ------
    NotAcceptableError
        If it does not consist of documents.
    """
    with SpooledTemporaryFile(IN_MEMORY) as store:
        table = Table(store)
        async for head, batch in _parts(result):
            rows, size = await encoder.run(partial(table.add, head, batch), size_of(batch))
            encoder.meter.add(rows, size)
        store.seek(0)
        yield table


def kinds_of(value: Any) -> Iterable[str]:
    """Name the kinds of a value: one of a scalar; of a list ``list`` and those of its items, prefixed by ``item``."""
    if type(value) is list:
        return ("list", *{f"item {kind}" for item in value for kind in _kind_of_item(item)})
    kind = _KINDS.get(type(value), "other")
    return ("long",) if kind == "int" and abs(value) > EXACT else (kind,)


def as_json(value: Any) -> str:
    """Write a value as relaxed Extended JSON."""
    return extjson.dumps(value).decode()


def _kind_of_item(item: Any) -> Iterable[str]:
    return ("other",) if isinstance(item, list) else kinds_of(item)


_KINDS = {
    type(None): "null",
    bool: "bool",
    int: "int",
    Int64: "int",
    float: "float",
    str: "text",
    ObjectId: "id",
    bytes: "bytes",
    DatetimeMS: "date",
}


async def _parts(result: Result) -> AsyncGenerator[tuple[bytes, Batch]]:
    match result:
        case Value():
            raise NotAcceptableError("only lists of documents can be given as a table; ask for application/json")
        case Rows(batches):
            async for batch in batches:
                for part in cut(batch):
                    yield b"", part
        case Matches(_, found):
            async for match in found:
                head = bson.encode({"_catalog": match.catalog, "_object": match.object})[4:-1]
                for part in cut(match.documents):
                    yield head, part


def _with_head(head: bytes, raw: bytes) -> bytes:
    return (len(raw) + len(head)).to_bytes(4, "little") + head + raw[4:]


def _flat(raw: bytes) -> Row:
    row: Row = {}
    _flatten(bson.decode(raw, OPTIONS), "", row)
    return row


def _flatten(document: Document, prefix: str, row: Row) -> None:
    for key, value in document.items():
        name = prefix + key
        if type(value) is dict and value:
            _flatten(value, name + ".", row)
        else:
            while name in row:  # "a.b" beside {"a": {"b": …}}
                name += "_"
            row[name] = value
