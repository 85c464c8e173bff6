"""Tables of files as Arrow batches: one reader per format, each of which can begin and end at any row."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kowalski.ingesters import delimited
from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.sources import ARCHIVE, STREAMED, Source, unpacked
from kowalski.ingesters.tables import Batch, Layout, Options, Reader

Opener = Callable[[Path, Options], AbstractContextManager[Reader]]


class Parquet(Reader):
    """Parquet: row groups before the first row are left out."""

    def __init__(self, path: Path, options: Options) -> None:
        self._file = pq.ParquetFile(path)
        self.layout = Layout(tuple(self._file.schema_arrow.names), self._file.metadata.num_rows)

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        at, groups = 0, []
        for number in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(number).num_rows
            if at + rows > start:
                groups.append((number, at))
            at += rows
        at = groups[0][1] if groups else start
        last_row = self._file.metadata.num_rows if end is None else end
        for batch in self._file.iter_batches(size, row_groups=[number for number, _ in groups], use_threads=False):
            first, last = max(start - at, 0), min(batch.num_rows, last_row - at)
            if last > first:
                yield Batch(at + first, last - first, batch.slice(first, last - first))
            at += batch.num_rows
            if at >= last_row:
                return


class Records(Reader):
    """A table that can be sliced into NumPy records: FITS, HDF5 and VOTable."""

    def __init__(self, rows: Any, names: tuple[str, ...], units: dict[str, str], nulls: dict[str, Any]) -> None:
        self._rows = rows
        self._nulls = nulls
        self.layout = Layout(names, len(rows), units)

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        end = len(self._rows) if end is None else end
        for at in range(start, end, size):
            piece = self._rows[at : min(at + size, end)]
            columns = [column(piece[name], self._nulls.get(name)) for name in self.layout.names]
            yield Batch(at, len(piece), pa.RecordBatch.from_arrays(columns, list(self.layout.names)))


@contextmanager
def opened(source: Source, options: Options) -> Iterator[Reader]:
    """Open the table of a file.

    Raises
    ------
    IngestError
        If it is not in the format it should be in, or has no such table.
    """
    with tempfile.TemporaryDirectory(prefix="kowalski-ingest-") as folder:
        try:
            if source.format in STREAMED:
                yield delimited.Delimited(source, options)
                return
            if source.format == ARCHIVE:
                from kowalski.ingesters import packets  # heavy: all that an alert needs

                yield packets.Archive(source)
                return
            with _opener(source.format)(unpacked(source, Path(folder)), options) as reader:
                yield reader
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise IngestError(f"{source.path}: {' '.join(str(error).split())[:300]}") from error


@contextmanager
def _parquet(path: Path, options: Options) -> Iterator[Reader]:
    yield Parquet(path, options)


@contextmanager
def _fits(path: Path, options: Options) -> Iterator[Reader]:
    from astropy.io import fits

    try:
        file = fits.open(path, memmap=True)
    except (OSError, ValueError) as error:
        raise IngestError(f"{path.name}: can't be read as FITS: {error}") from error
    with file:
        tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if options.table is not None:
            tables = [
                hdu for number, hdu in enumerate(file) if options.table in {str(number), hdu.name} and hdu in tables
            ]
        if not tables:
            raise IngestError(f"{path.name}: there is no table {options.table or ''} in it")
        columns = tables[0].columns
        units = {column.name: column.unit for column in columns if column.unit}
        nulls = {column.name: column.null for column in columns if column.null not in {None, ""}}
        yield Records(tables[0].data, tuple(columns.names), units, nulls)


@contextmanager
def _votable(path: Path, options: Options) -> Iterator[Reader]:
    from astropy.io import votable
    from astropy.io.votable.exceptions import VOTableSpecError

    try:
        tables = list(votable.parse(path).iter_tables())
    except (VOTableSpecError, ValueError, IndexError) as error:
        raise IngestError(f"{path.name}: can't be read as VOTable: {' '.join(str(error).split())[:200]}") from error
    number = int(options.table) if options.table and options.table.isdigit() else 0
    if number >= len(tables):
        raise IngestError(f"{path.name}: there is no table {number} in it")
    table = tables[number].to_table(use_names_over_ids=True)
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
    yield Records(table, tuple(table.colnames), units, {})


@contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file.

    Raises
    ------
    IngestError
        If it is none.
    """
    import h5py
    import hdf5plugin  # noqa: F401 - registers the filters by which PyTables packs

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise IngestError(f"{path.name}: can't be read as HDF5: {error}") from error
    with file:
        yield file


def hdf5_tables(file: Any) -> dict[str, Any]:
    """Find the tables of an HDF5 file by their path: datasets of one dimension whose rows have named fields."""
    import h5py

    tables: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.names is not None and item.ndim == 1:
            tables[name] = item

    file.visititems(look)
    return tables


@contextmanager
def _hdf5(path: Path, options: Options) -> Iterator[Reader]:
    with hdf5(path) as file:
        tables = hdf5_tables(file)
        if options.table is not None:
            tables = {name: item for name, item in tables.items() if name == options.table.strip("/")}
        if len(tables) != 1:
            there = ", ".join(sorted(tables)) or "none"
            raise IngestError(f"{path.name}: which table is meant? There are: {there}; name it by --table")
        (dataset,) = tables.values()
        yield Records(dataset, tuple(dataset.dtype.names), {}, {})


GENERIC: dict[str, Opener] = {"parquet": _parquet, "fits": _fits, "votable": _votable, "hdf5": _hdf5}


def _opener(format_: str) -> Opener:
    from kowalski.ingesters import lightcurves

    return GENERIC.get(format_) or lightcurves.READERS[format_]


def column(values: Any, null: Any) -> pa.Array:
    """Turn a column of records into Arrow; texts lose the blanks around them, arrays become lists."""
    mask = getattr(values, "mask", None)
    array = np.asarray(values)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    missing = np.zeros(array.shape[:1], bool)
    if mask is not None and np.ndim(mask) == 1:
        missing |= np.asarray(mask, bool)
    if null is not None and array.ndim == 1 and array.dtype.kind in "iu":
        missing |= array == null
    if array.ndim > 1:
        return pa.array(array.tolist())
    if array.dtype.kind == "O":
        return pa.array(
            [each.decode("utf-8", "replace") if isinstance(each, bytes) else _listed(each) for each in array]
        )
    if array.dtype.kind in "SU":
        texts = np.char.strip(np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array)
        return pa.array(texts.tolist(), pa.string(), mask=missing)
    return pa.array(np.ascontiguousarray(array), mask=missing if missing.any() else None)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
