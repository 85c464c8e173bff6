"""Tables that users send: CSV with a header line, or Parquet, with a position in each row.

Only the columns that are asked for are read. What is wrong with any row refuses the table as a whole, and says which
row it is: a match that leaves rows out looks like one that has found nothing.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from kowalski.api.errors import InvalidRequestError
from kowalski.api.queries.positions import DEGREES_PER_HOUR, Position, sexagesimal
from kowalski.ingesters.columns import find_positions

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
UNPACKED = 256 * 1024 * 1024
"""Bytes that the columns of a Parquet file may have when unpacked."""
LONGEST = 200
"""Characters of a text; that of an id comes back with every match."""
LISTED = 30
"""Columns that are named in an error."""

Id = int | str | None


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of the rows of a table.

    Attributes
    ----------
    positions
        Of each row; the name is its number, from 0.
    ids
        Of each row, if a column of them was asked for: whole numbers or texts.
    """

    positions: Sequence[Position]
    ids: Sequence[Id] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names of the columns to read; those of the position are looked for where they are not given."""

    ra: str | None = None
    dec: str | None = None
    id: str | None = None

    def resolve(self, names: Sequence[str]) -> tuple[str, str]:
        """Find the columns of right ascension and declination among ``names``.

        Raises
        ------
        InvalidRequestError
            If a column is missing, or there are two of its name.
        """
        listed = ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
        for parameter, name in (("ra", self.ra), ("dec", self.dec), ("id", self.id)):
            if name is not None and name not in names:
                raise InvalidRequestError(f"{parameter}: the table has no column {name!r:.100}; it has {listed:.1000}")
        found = find_positions(names, self.ra, self.dec)
        if self.ra is not None and self.dec is not None:
            found = self.ra, self.dec
        if found is None:
            raise InvalidRequestError(
                "the table has no columns of positions with a name that is known; "
                f"say in ra and dec which of these it is: {listed:.1000}"
            )
        counts = Counter(names)
        for name in (*found, self.id):
            if name is not None and counts[name] > 1:
                raise InvalidRequestError(f"the table has {counts[name]} columns {name!r:.100}")
        return found


def read(content: bytes, media: str, wanted: Wanted, max_rows: int) -> Table:
    """Read a table, in the format that its media type names: `CSV` or `PARQUET`.

    Raises
    ------
    InvalidRequestError
        If it is not of that format, has more than ``max_rows`` rows, lacks a column, or a row has no position on the
        sky.
    """
    try:
        load = _load_csv if media == CSV else _load_parquet
        columns, ra, dec = load(content, wanted, max_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        name = "CSV" if media == CSV else "Parquet"
        raise InvalidRequestError(f"the table can't be read as {name}: {' '.join(str(error).split())[:300]}") from error
    positions = []
    degrees = zip(_angles(columns.column(ra), ra, "ra"), _angles(columns.column(dec), dec, "dec"), strict=True)
    for row, (first, second) in enumerate(degrees):
        if not (0.0 <= first <= 360.0 and -90.0 <= second <= 90.0):
            raise InvalidRequestError(
                f"row {row} (from 0): right ascension is 0 to 360 and declination -90 to 90 degrees, "
                f"not {first:g} and {second:g}"
            )
        positions.append(Position(str(row), first, second))
    return Table(positions, None if wanted.id is None else _ids(columns.column(wanted.id), wanted.id))


def _load_csv(content: bytes, wanted: Wanted, max_rows: int) -> tuple[pa.Table, str, str]:
    content = content.removeprefix(b"\xef\xbb\xbf")  # as spreadsheets begin
    header = content.split(b"\n", 1)[0].decode()
    names = [name.strip() for name in next(csv.reader(io.StringIO(header)), [])]
    ra, dec = wanted.resolve(names)
    wrong: list[str] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        wrong.append(f"row {row.number - 2} (from 0) has {row.actual_columns} values instead of {row.expected_columns}")
        return "error"

    unique = [name if name in (ra, dec, wanted.id) else f"{number}: {name}" for number, name in enumerate(names)]
    chosen = list(dict.fromkeys(name for name in (ra, dec, wanted.id) if name is not None))
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            arrow_csv.ReadOptions(use_threads=False, column_names=unique, skip_rows=1),
            arrow_csv.ParseOptions(invalid_row_handler=refuse, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                include_columns=chosen,
                column_types=dict.fromkeys(chosen, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if not content.partition(b"\n")[2].strip():
            return pa.table({name: pa.array([], pa.string()) for name in chosen}), ra, dec
        if wrong:
            raise InvalidRequestError(wrong[0]) from error
        raise
    _check_rows(table.num_rows, max_rows)
    return table, ra, dec


def _load_parquet(content: bytes, wanted: Wanted, max_rows: int) -> tuple[pa.Table, str, str]:
    # Texts stay in dictionaries: a few of them, repeated in every row, would otherwise take any amount of memory.
    source = pa.BufferReader(content)
    about = parquet.ParquetFile(source)
    _check_rows(about.metadata.num_rows, max_rows)
    ra, dec = wanted.resolve(about.schema_arrow.names)
    chosen = list(dict.fromkeys(name for name in (ra, dec, wanted.id) if name is not None))
    leaves = {about.schema.column(number).path for number in range(len(about.schema))}
    for name in chosen:
        if name not in leaves:
            raise InvalidRequestError(f"the column {name!r:.100} is nested: it holds neither numbers nor texts")
    file = parquet.ParquetFile(source, metadata=about.metadata, read_dictionary=chosen)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    unpacked = sum(
        column.total_uncompressed_size
        for group in groups
        for column in (group.column(number) for number in range(group.num_columns))
        if column.path_in_schema in chosen
    )
    if unpacked > UNPACKED:
        raise InvalidRequestError(f"the columns {', '.join(chosen)} have more than {UNPACKED} bytes when unpacked")
    table = file.read(columns=chosen, use_threads=False)
    _check_rows(table.num_rows, max_rows)
    return table, ra, dec


def _check_rows(rows: int, most: int) -> None:
    if rows > most:
        raise InvalidRequestError(f"the table has {rows} rows; at most {most} are matched at once")


def _angles(column: pa.ChunkedArray, name: str, axis: Literal["ra", "dec"]) -> list[float]:
    kind = _kind(column, name)
    if not _is_text(kind) and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InvalidRequestError(f"the column {name!r:.100} holds {kind}, neither numbers nor texts"[:300])
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise InvalidRequestError(f"row {row} (from 0) has no {name}"[:300])
    values = column.to_pylist()
    if _is_text(kind):
        return [_angle(value, row, name, axis) for row, value in enumerate(values)]
    return [float(value) for value in values]


def _angle(text: str, row: int, name: str, axis: Literal["ra", "dec"]) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return sexagesimal(text, axis) * (DEGREES_PER_HOUR if axis == "ra" else 1.0)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"row {row} (from 0): {name:.100} is neither a number nor like 12:34:56.7: {text[:40]!r}"
        ) from error


def _ids(column: pa.ChunkedArray, name: str) -> Sequence[Id]:
    kind = _kind(column, name)
    if not _is_text(kind) and not pa.types.is_integer(kind):
        raise InvalidRequestError(f"the ids in {name!r:.100} are {kind}, neither whole numbers nor texts"[:300])
    ids: Sequence[Id] = column.to_pylist()
    if kind == pa.uint64() and any(value is not None and int(value) >= 2**63 for value in ids):
        raise InvalidRequestError(f"the ids in {name!r:.100} do not fit into 64 bits with a sign")
    return ids


def _kind(column: pa.ChunkedArray, name: str) -> pa.DataType:
    """Tell what a column holds, once no text in it is too long."""
    is_dictionary = pa.types.is_dictionary(column.type)
    kind = column.type.value_type if is_dictionary else column.type
    if _is_text(kind):
        for texts in (chunk.dictionary if is_dictionary else chunk for chunk in column.chunks):
            if (pc.max(pc.utf8_length(texts)).as_py() or 0) > LONGEST:
                raise InvalidRequestError(f"a text in {name!r:.100} has more than {LONGEST} characters")
    return kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
