"""Tables that are made of several of a file: light curves of matchfiles, and what SCoPe makes of them.

ZTF matchfiles: https://irsa.ipac.caltech.edu/data/ZTF/docs/ztf_explanatory_supplement.pdf; SCoPe: van Roestel et al.
2021, AJ 161, 267.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.readers import Parquet, column, hdf5, hdf5_tables
from kowalski.ingesters.tables import Batch, Layout, Options, Reader

ZTF_NAME = re.compile(r"ztf_(?P<field>\d{6})_(?P<filter>zg|zr|zi)_c(?P<ccd>\d{2})_q(?P<quad>\d)_match")
PTF_NAME = re.compile(r"PTF_d(?P<field>\d{6})_f(?P<filter>\d{2})_c(?P<ccd>\d{2})_")
CLASS = re.compile(r"(?:.*\.)?(?P<name>[^.]+)\.[^.]+")
BANDS = {"zg": 1, "zr": 2, "zi": 3}
SOURCES, EXPOSURES = 10**13, 10**16
"""Where the ids of sources and of exposures begin."""
ROUNDED = 3
"""Decimals of statistics and magnitudes; times and errors have `FINE`."""
FINE = 5

ZTF_KEPT = ("matchid", "ra", "dec", "nobs", "ngoodobs", "refmag", "refmagerr", "refsnr", "medianmag", "vonneumannratio")
"""Statistics of a ZTF source that are stored; others follow from its light curve."""
ZTF_POINT = {"catflags": None, "chi": ROUNDED, "ra": -1, "dec": -1, "expid": None, "hjd": FINE, "mag": ROUNDED,
             "magerr": FINE, "programid": None, "sharp": ROUNDED}  # fmt: skip
"""Fields of a point of a light curve, and decimals to which they are rounded (-1: not at all; None: whole numbers)."""
PTF_POINT = {"mjd": FINE, "mag": ROUNDED, "magErr": ROUNDED, "ipacFlags": None, "ra": -1, "dec": -1}

STATISTICS = (
    "_id", "ra", "dec", "n", "median", "wmean", "chi2red", "roms", "wstd", "norm_peak_to_peak_amp", "norm_excess_var",
    "median_abs_dev", "iqr", "i60r", "i70r", "i80r", "i90r", "skew", "smallkurt", "inv_vonneumannratio", "welch_i",
    "stetson_j", "stetson_k", "ad", "sw",
)  # fmt: skip
"""Columns of ``stats``."""
PERIODS = (
    "_id", "period", "significance", "pdot", "f1_power", "f1_BIC", "f1_a", "f1_b", "f1_amp", "f1_phi0", "f1_relamp1",
    "f1_relphi1", "f1_relamp2", "f1_relphi2", "f1_relamp3", "f1_relphi3", "f1_relamp4", "f1_relphi4",
)  # fmt: skip
"""Columns of ``stats_EAOV``."""

Columns = dict[str, pa.Array]


class Whole(Reader):
    """A table that is there as a whole."""

    def __init__(self, columns: Columns) -> None:
        self._table = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        self.layout = Layout(tuple(columns), self._table.num_rows)

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        end = self._table.num_rows if end is None else end
        for at in range(start, end, size):
            piece = self._table.slice(at, min(size, end - at))
            yield Batch(at, piece.num_rows, piece)


@contextmanager
def _ztf_sources(path: Path, options: Options) -> Iterator[Reader]:
    of = _ztf_numbers(path)
    with hdf5(path) as file:
        sources, points = _rows(file, path, "matches/sources"), _rows(file, path, "matches/sourcedata")
    sources, groups = _grouped(sources, "matchid", points, "matchid", "hjd")
    percentiles = sources["percentiles"]
    columns = {"_id": pa.array(_source_base(of) + sources["matchid"].astype(np.int64))}
    columns |= {name: _rounded(sources[name], name) for name in ZTF_KEPT}
    columns["iqr"] = _rounded(percentiles[:, 8] - percentiles[:, 3], "iqr")
    exposure = {"uexpid": _exposure_base(of) + points["expid"].astype(np.int64)}
    columns["data"] = _light_curves(points, groups, ZTF_POINT, exposure)
    yield Whole(columns | _constants(of, len(sources)))


@contextmanager
def _ztf_exposures(path: Path, options: Options) -> Iterator[Reader]:
    of = _ztf_numbers(path)
    with hdf5(path) as file:
        rows = _rows(file, path, "matches/exposures")
    columns = {"_id": pa.array(_exposure_base(of) + rows["expid"].astype(np.int64))}
    columns["matchfile"] = pa.array([path.name] * len(rows), pa.string())
    columns |= {name: column(rows[name], None) for name in rows.dtype.names or ()}
    yield Whole(columns | _constants(of, len(rows)))


@contextmanager
def _ptf_sources(path: Path, options: Options) -> Iterator[Reader]:
    of = _numbers(PTF_NAME, path)
    with hdf5(path) as file:
        tables = hdf5_tables(file)
        sources, points = _rows(file, path, _named(tables, "sources")), _rows(file, path, _named(tables, "sourcedata"))
    sources, groups = _grouped(sources, "matchedSourceID", points, "matchedSourceID", "mjd")
    base = SOURCES + of["field"] * 10**9 + of["ccd"] * 10**7 + of["filter"] * 10**6
    columns = {"_id": pa.array(base + sources["matchedSourceID"].astype(np.int64))}
    for axis in ("ra", "dec"):
        columns[axis] = pa.array([float(np.median(points[axis][group])) for group in groups], pa.float64())
    columns["nobs"] = pa.array([len(group) for group in groups], pa.int32())
    columns["data"] = _light_curves(points, groups, PTF_POINT, {}, {"magErr": "magerr", "ipacFlags": "ipacflags"})
    columns |= {name: pa.array([of[name]] * len(sources), pa.int32()) for name in ("field", "ccd", "filter")}
    yield Whole(columns)


@contextmanager
def _ptf_exposures(path: Path, options: Options) -> Iterator[Reader]:
    of = _numbers(PTF_NAME, path)
    with hdf5(path) as file:
        rows = _rows(file, path, _named(hdf5_tables(file), "exposures"))
    base = EXPOSURES + of["field"] * 10**12 + of["ccd"] * 10**10 + of["filter"] * 10**9
    columns = {"_id": pa.array(base + rows["expid"].astype(np.int64))}
    columns["matchfile"] = pa.array([path.name] * len(rows), pa.string())
    columns |= {name: column(rows[name], None) for name in rows.dtype.names or ()}
    columns |= {name: pa.array([of[name]] * len(rows), pa.int32()) for name in ("field", "ccd", "filter")}
    yield Whole(columns)


@contextmanager
def _features(path: Path, options: Options) -> Iterator[Reader]:
    with hdf5(path) as file:
        statistics, periods = _matrix(file, path, "stats", STATISTICS), _matrix(file, path, "stats_EAOV", PERIODS)
    if not np.array_equal(statistics[:, 0], periods[:, 0]):
        raise IngestError(f"{path.name}: the rows of stats and stats_EAOV are not of the same sources")
    columns = {name: pa.array(np.ascontiguousarray(statistics[:, i])) for i, name in enumerate(STATISTICS)}
    columns |= {name: pa.array(np.ascontiguousarray(periods[:, i])) for i, name in enumerate(PERIODS) if i}
    columns["_id"] = columns["_id"].cast(pa.int64())
    columns["n"] = columns["n"].cast(pa.int64())
    field, ccd, quad, band = _of_source(statistics[:, 0])
    columns |= {"field": pa.array(field), "ccd": pa.array(ccd), "quad": pa.array(quad), "filter": pa.array(band)}
    yield Whole(columns)


@contextmanager
def _classifications(path: Path, options: Options) -> Iterator[Reader]:
    named, model = CLASS.fullmatch(path.parent.name), path.parent.parent.name
    if named is None or model not in {"xgb", "dnn"}:
        raise IngestError(f"{path}: the folders above must tell model and class, as in xgb/d15.vnv.c/{path.name}")
    with hdf5(path) as file:
        predictions = _matrix(file, path, "preds", ("_id", "score"))
    score = pa.array(np.ascontiguousarray(predictions[:, 1]))
    yield Whole({"_id": pa.array(predictions[:, 0].astype(np.int64)), f"{named['name']}_{model}": score})


class _Public(Reader):
    """Light curves of public data releases: a row per source, with a list per quantity, as a list of points."""

    RENAMED = {"objectid": "_id", "filterid": "filter", "fieldid": "field", "rcid": "rc", "objra": "ra",
               "objdec": "dec", "nepochs": "nobs"}  # fmt: skip
    POINT = {"hmjd": "hjd", "mag": "mag", "magerr": "magerr", "clrcoeff": "clrcoeff", "catflags": "catflags"}
    """Quantity -> what it is called in a point. Times keep five decimals, which is a second; magnitudes three."""

    def __init__(self, path: Path, options: Options) -> None:
        self._table = Parquet(path, options)
        missing = (self.RENAMED.keys() | self.POINT.keys()) - set(self._table.layout.names)
        if missing:
            raise IngestError(f"{path.name}: there are no columns {', '.join(sorted(missing))}")
        self.layout = Layout((*self.RENAMED.values(), "data"), self._table.layout.rows)

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read rows from ``start`` to before ``end`` in batches of at most ``size``."""
        for batch in self._table.read(start, end, size):
            columns = [batch.table.column(name) for name in self.RENAMED]
            lists = [batch.table.column(name) for name in self.POINT]
            points = pa.StructArray.from_arrays(
                [
                    _decimals(each.flatten(), FINE if name == "hmjd" else ROUNDED)
                    for name, each in zip(self.POINT, lists, strict=True)
                ],
                list(self.POINT.values()),
            )
            lengths = lists[0].value_lengths().fill_null(0).to_numpy()
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            data = pa.ListArray.from_arrays(pa.array(offsets), points)
            yield Batch(batch.start, batch.rows, pa.RecordBatch.from_arrays([*columns, data], list(self.layout.names)))


@contextmanager
def _public(path: Path, options: Options) -> Iterator[Reader]:
    yield _Public(path, options)


READERS: dict[str, Callable[[Path, Options], AbstractContextManager[Reader]]] = {
    "ztf-sources": _ztf_sources,
    "ztf-exposures": _ztf_exposures,
    "ztf-public": _public,
    "ptf-sources": _ptf_sources,
    "ptf-exposures": _ptf_exposures,
    "features": _features,
    "classifications": _classifications,
}
"""Formats that declarations may name, beside the generic ones."""


def _numbers(pattern: re.Pattern[str], path: Path) -> dict[str, int]:
    match = pattern.match(path.name)
    if match is None:
        raise IngestError(f"{path.name}: field, filter and chip are told by the file's name, and it has another form")
    return {name: BANDS[text] if text in BANDS else int(text) for name, text in match.groupdict().items()}


def _ztf_numbers(path: Path) -> dict[str, int]:
    of = _numbers(ZTF_NAME, path)
    return of | {"rc": (of["ccd"] - 1) * 4 + of["quad"] - 1}


def _source_base(of: dict[str, int]) -> int:
    return SOURCES + of["field"] * 10**9 + of["rc"] * 10**7 + of["filter"] * 10**6


def _exposure_base(of: dict[str, int]) -> int:
    return EXPOSURES + of["field"] * 10**12 + of["rc"] * 10**10 + of["filter"] * 10**9


def _of_source(ids: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Field, CCD, quadrant and filter that the id of a ZTF source tells."""
    rest = ids.astype(np.int64) - SOURCES
    chip = rest // 10**7 % 100
    return rest // 10**9, chip // 4 + 1, chip % 4 + 1, rest // 10**6 % 10


def _constants(of: dict[str, int], rows: int) -> Columns:
    return {name: pa.array([of[name]] * rows, pa.int32()) for name in ("filter", "field", "ccd", "quad", "rc")}


def _named(tables: dict[str, Any], name: str) -> str:
    return next((path for path in tables if path.rpartition("/")[2] == name), name)


def _rows(file: Any, path: Path, table: str) -> NDArray[Any]:
    if table not in file:
        raise IngestError(f"{path.name}: there is no table {table} in it")
    found: NDArray[Any] = file[table][:]
    return found


def _matrix(file: Any, path: Path, table: str, names: Sequence[str]) -> NDArray[np.float64]:
    found = np.asarray(_rows(file, path, table), np.float64)
    if found.ndim != 2 or found.shape[1] != len(names):
        raise IngestError(f"{path.name}: {table} has the shape {found.shape} instead of (n, {len(names)})")
    return found


def _grouped(
    sources: NDArray[Any], key: str, points: NDArray[Any], point_key: str, time: str
) -> tuple[NDArray[Any], list[NDArray[np.int64]]]:
    """Find the points of each source, in order of time; sources without any are left out."""
    order = np.lexsort((points[time], points[point_key]))
    ids = points[point_key][order].astype(np.int64)
    first = np.searchsorted(ids, sources[key].astype(np.int64), "left")
    last = np.searchsorted(ids, sources[key].astype(np.int64), "right")
    seen = np.flatnonzero(last > first)
    return sources[seen], [order[first[i] : last[i]] for i in seen]


def _light_curves(
    points: NDArray[Any],
    groups: list[NDArray[np.int64]],
    decimals: dict[str, int | None],
    further: Columns | dict[str, NDArray[Any]],
    renamed: dict[str, str] | None = None,
) -> pa.Array:
    order = np.concatenate(groups) if groups else np.empty(0, np.int64)
    fields = {
        (renamed or {}).get(name, name): _rounded_to(points[name][order], count) for name, count in decimals.items()
    }
    fields |= {name: pa.array(np.asarray(values)[order]) for name, values in further.items()}
    offsets = np.concatenate([[0], np.cumsum([len(group) for group in groups])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(list(fields.values()), list(fields)))


def _rounded_to(values: NDArray[Any], count: int | None) -> pa.Array:
    if count is None:
        return pa.array(values.astype(np.int64))
    return pa.array(values.astype(np.float64) if count < 0 else np.round(values.astype(np.float64), count))


def _rounded(values: NDArray[Any], name: str) -> pa.Array:
    if values.dtype.kind in "iu" or name in {"ra", "dec"}:
        return pa.array(np.ascontiguousarray(values))
    return _rounded_to(values, ROUNDED)


def _decimals(values: pa.Array, count: int) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return values
    return pa.array(np.round(values.to_numpy(zero_copy_only=False).astype(np.float64), count))
