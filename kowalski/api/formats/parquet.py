"""Apache Parquet: typed columns, as pandas, Astropy and DuckDB read them.

A column whose values are of several kinds, or of one that Parquet does not have, holds them as relaxed Extended JSON.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from bson import DatetimeMS, ObjectId
from pyarrow import parquet

from kowalski.api.formats import tables
from kowalski.api.formats.encoder import Encoder
from kowalski.api.formats.tables import Row, Table
from kowalski.api.results import Result

GROUP = 8 * 1024 * 1024
"""Bytes of BSON that go into one row group."""

_TYPES: dict[frozenset[str], pa.DataType] = {
    frozenset(): pa.string(),
    frozenset({"bool"}): pa.bool_(),
    frozenset({"int"}): pa.int64(),
    frozenset({"int", "long"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"float"}): pa.float64(),
    frozenset({"int", "float"}): pa.float64(),
    frozenset({"text"}): pa.string(),
    frozenset({"id"}): pa.string(),
    frozenset({"bytes"}): pa.binary(),
    frozenset({"date"}): pa.timestamp("ms", "UTC"),
}


class Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._pieces.append(bytes(data))
        self._position += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        """Tell how many bytes were written so far, taken or not."""
        return self._position

    def take(self) -> bytes:
        """Give what was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file."""

    name: str
    type: pa.DataType
    convert: Callable[[Any], Any] | None

    def array(self, rows: list[Row]) -> pa.Array:
        """Take this column out of ``rows``."""
        values = [row.get(self.name) for row in rows]
        if self.convert is not None:
            values = [None if value is None else self.convert(value) for value in values]
        return pa.array(values, self.type)


async def pieces(message: str, result: Result, encoder: Encoder) -> AsyncGenerator[bytes]:
    """Write a result as a Parquet file."""
    async with tables.collected(result, encoder) as table:
        columns = [column(name, kinds) for name, kinds in table.columns.items()]
        schema = pa.schema([(each.name, each.type) for each in columns])
        sink = Sink()
        with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
            while await encoder.run(lambda: _write_group(writer, table, columns), GROUP):
                yield sink.take()
        yield sink.take()


def column(name: str, kinds: set[str]) -> Column:
    """Make the column that takes values of all of ``kinds`` (see `kowalski.api.formats.tables.kinds_of`)."""
    plain = _plain if kinds & {"id", "date", "item id", "item date"} else None
    items = frozenset(kind.removeprefix("item ") for kind in kinds if kind.startswith("item "))
    others = frozenset(kind for kind in kinds if not kind.startswith("item ")) - {"null"}
    if others == {"list"} and items - {"null"} in _TYPES:
        return Column(name, pa.list_(_TYPES[items - {"null"}]), plain)
    if others in _TYPES:
        return Column(name, _TYPES[others], plain)
    return Column(name, pa.string(), tables.as_json)


def _plain(value: Any) -> Any:
    match value:
        case ObjectId():
            return str(value)
        case DatetimeMS():
            return int(value)
        case list():
            return [_plain(item) for item in value]
    return value


def _write_group(writer: parquet.ParquetWriter, table: Table, columns: list[Column]) -> bool:
    rows = table.read(GROUP)
    if rows:
        writer.write_table(pa.table([each.array(rows) for each in columns], writer.schema))
    return bool(rows)
