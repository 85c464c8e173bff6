"""What a reader gives, whatever the format: batches of an Arrow table, and what the file says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from kowalski.science.coordinates import Cells

PART = 500_000
"""Rows of a part: the piece of a file that one process loads."""


@dataclass(slots=True)
class Batch:
    """Some rows of a file.

    Attributes
    ----------
    start
        Number of the first row in the file.
    rows
        How many rows of the file this is.
    table
        Those of them whose values could be read.
    numbers
        Their numbers in the file.
    unread
        Number, reason and text of rows that could not be read; those that have not even the right number of values have
        a line instead of a number, and count nowhere else.
    """

    start: int
    rows: int
    table: pa.RecordBatch
    numbers: Cells = field(default_factory=lambda: np.empty(0, np.int64))
    unread: list[tuple[int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.numbers.size:
            self.numbers = np.arange(self.start, self.start + self.table.num_rows, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file says of its table.

    Attributes
    ----------
    names
        Its columns.
    rows
        How many rows it has, if the format tells.
    units
        Column -> unit, where the file has any.
    """

    names: tuple[str, ...]
    rows: int | None = None
    units: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[tuple[int, int | None]]:
        """First row and end of the parts in which it is loaded."""
        if self.rows is None:
            return [(0, None)]
        return [(start, min(start + PART, self.rows)) for start in range(0, max(self.rows, 1), PART)]


@dataclass(frozen=True, slots=True)
class Options:
    """How files are to be read.

    Attributes
    ----------
    table
        Which table of a file: name or number of an HDU, path within an HDF5 file, number in a VOTable.
    names
        Column names of a delimited file without a header.
    nulls
        Texts and numbers that stand for no value.
    """

    table: str | None = None
    names: tuple[str, ...] = ()
    delimiter: str | None = None
    nulls: tuple[str, ...] = ()


class Reader:
    """An open table."""

    layout: Layout

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        raise NotImplementedError
