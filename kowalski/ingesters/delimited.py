"""CSV and TSV: read as text, block by block; what a column holds is told by the first block.

A value that is none of the column's kind costs its row only, not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.sources import Source
from kowalski.ingesters.tables import Batch, Layout, Options, Reader
from kowalski.science.coordinates import Bools

BLOCK = 4 << 20
"""Bytes that are parsed at a time; a row must fit."""
TEXT = pa.string()


class Delimited(Reader):
    """A delimited file; its rows can be had only from the first on, so that others are passed over."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._unread: list[tuple[int, str, str]] = []
        first = self._blocks(infer=True, unread=[])
        if first is None:
            raise IngestError(f"{source.path}: it is empty")
        try:
            inferred = first.read_next_batch()
        except StopIteration:
            inferred = pa.record_batch([pa.array([], field.type) for field in first.schema], first.schema)
        self._raw_names = list(inferred.schema.names)
        names = tuple(name.strip().strip('"').strip() for name in self._raw_names)
        self._types = [_kind(column, options.nulls) for column in inferred.columns]
        self.layout = Layout(names)

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        blocks = self._blocks(infer=False, unread=self._unread)
        if blocks is None:
            return
        first = 0
        for block in blocks:
            unread, self._unread[:] = list(self._unread), []
            for offset in range(0, block.num_rows, size):
                if end is not None and first >= end:
                    return
                piece = block.slice(offset, size)
                if first + piece.num_rows > start:
                    yield self._typed(Batch(first, piece.num_rows, piece, unread=unread), start, end)
                first, unread = first + piece.num_rows, []

    def _typed(self, batch: Batch, start: int, end: int | None) -> Batch:
        """Convert texts to what their columns hold, and leave out the rows in which that can't be done."""
        numbers = batch.numbers
        good = numbers >= start
        if end is not None:
            good &= numbers < end
        columns: list[pa.Array] = []
        unread = list(batch.unread)
        for name, kind, texts in zip(self.layout.names, self._types, batch.table.columns, strict=True):
            column, failed = _converted(texts, kind, self._options.nulls)
            for row in np.flatnonzero(failed & good).tolist():
                unread.append(
                    (int(numbers[row]), f"{name}: {texts[row].as_py()!r:.40} is no number", _line(batch.table, row))
                )
            good &= ~failed
            columns.append(column)
        table = pa.RecordBatch.from_arrays(columns, list(self.layout.names))
        if not good.all():
            table = table.filter(pa.array(good))
        first, last = max(batch.start, start), batch.start + batch.rows
        return Batch(first, (last if end is None else min(last, end)) - first, table, numbers[good], unread)

    def _blocks(self, *, infer: bool, unread: list[tuple[int, str, str]]) -> csv.CSVStreamingReader | None:
        def refuse(row: csv.InvalidRow) -> str:
            reason = f"has {row.actual_columns} values instead of {row.expected_columns}"
            unread.append((-1 if row.number is None else row.number, reason, row.text[:1000]))
            return "skip"

        options = self._options
        delimiter = options.delimiter or ("\t" if self._source.format == "tsv" else ",")
        types = None if infer else dict.fromkeys(self._raw_names, TEXT)
        try:
            stream = pa.input_stream(str(self._source.path), compression=self._source.codec)
            return csv.open_csv(
                stream,
                csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=list(options.names) or None),
                csv.ParseOptions(delimiter=delimiter, invalid_row_handler=refuse, newlines_in_values=False),
                csv.ConvertOptions(column_types=types, null_values=["", *options.nulls], strings_can_be_null=True),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return None
            raise IngestError(f"{self._source.path}: can't be read as {self._source.format}: {error}") from error


def _kind(column: pa.Array, nulls: tuple[str, ...]) -> pa.DataType:
    """What a column holds: numbers, texts, or true and false."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return kind
    if pa.types.is_string(kind) and len(column) > column.null_count:
        texts = _clean(column, nulls).drop_null()
        for number in (pa.int64(), pa.float64()):
            try:
                texts.cast(number)
            except pa.ArrowInvalid:
                continue
            return number if len(texts) else TEXT
    return TEXT


def _converted(texts: pa.Array, kind: pa.DataType, nulls: tuple[str, ...]) -> tuple[pa.Array, Bools]:
    """Convert a column; also tell in which rows that fails."""
    none = np.zeros(len(texts), bool)
    if kind != TEXT:
        with suppress(pa.ArrowInvalid):
            return texts.cast(kind), none  # as nearly always, nothing has to be cleaned
    clean = _clean(texts, nulls)
    if kind == TEXT:
        return clean, none
    for wanted in (kind, *((pa.float64(),) if pa.types.is_integer(kind) else ())):
        try:
            return clean.cast(wanted), none
        except pa.ArrowInvalid:
            continue
    values = [_value(text, boolean=pa.types.is_boolean(kind)) for text in clean.to_pylist()]
    failed = np.array([value is ... for value in values], bool)
    return pa.array([None if value is ... else value for value in values]), failed


def _value(text: str | None, *, boolean: bool) -> object:
    if text is None:
        return None
    if boolean:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), ...)
    try:
        return float(text)
    except ValueError:
        return ...


def _clean(texts: pa.Array, nulls: tuple[str, ...]) -> pa.Array:
    """Take blanks and quotes from around texts; what is left of nothing, or stands for it, is null."""
    trimmed = pc.utf8_trim_whitespace(texts)
    quoted = pc.and_(pc.starts_with(trimmed, '"'), pc.ends_with(trimmed, '"'))
    if pc.any(quoted).as_py():
        trimmed = pc.if_else(quoted, pc.utf8_trim_whitespace(pc.utf8_trim(trimmed, '"')), trimmed)
    return pc.if_else(pc.is_in(trimmed, pa.array(["", *nulls], TEXT)), pa.scalar(None, TEXT), trimmed)


def _line(table: pa.RecordBatch, row: int) -> str:
    return ",".join("" if value.as_py() is None else str(value.as_py()) for value in (c[row] for c in table.columns))[
        :1000
    ]
