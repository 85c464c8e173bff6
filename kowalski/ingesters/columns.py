"""Which columns of a table are what: positions, ids, names that MongoDB takes, values that stand for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.tables import Layout
from kowalski.science.coordinates import Bools, Floats

Unit = Literal["deg", "rad", "hour"]
PAIRS = (
    ("ra", "dec"), ("objra", "objdec"), ("ramean", "decmean"), ("raj2000", "dej2000"), ("raj2000", "decj2000"),
    ("_raj2000", "_dej2000"), ("ra_icrs", "de_icrs"), ("ra_icrs", "dec_icrs"), ("ra_deg", "dec_deg"),
    ("radeg", "dedeg"), ("radeg", "decdeg"), ("alpha_j2000", "delta_j2000"), ("ra", "declination"),
    ("right_ascension", "declination"), ("r.a.", "dec"), ("r.a.", "dec."), ("coord_ra", "coord_dec"), ("ra", "decl"),
)  # fmt: skip
"""Names of right ascension and declination, whatever the case, in the order in which they are looked for."""
DEGREES: dict[str, float] = {"deg": 1.0, "rad": float(np.degrees(1.0)), "hour": 15.0}
UNITS: dict[str, Unit] = {"deg": "deg", "degree": "deg", "degrees": "deg", "rad": "rad", "radian": "rad",
         "radians": "rad", "hour": "hour", "hours": "hour", "h": "hour", "hourangle": "hour", "hr": "hour"}  # fmt: skip
SEXAGESIMAL = (
    r"^(?P<sign>[+-]?)(?P<unit>\d{1,3})(?:[:hHdD°]|\s)\s*(?P<minute>\d{1,2})(?:[:mM'′]|\s)\s*"
    r"(?P<second>\d{1,2}(?:\.\d*)?)(?:s|\"|″|'')?$"
)
LEFT_OUT = frozenset({"__index_level_0__", "_healpix_29", "radec_geojson"})
"""Columns that tell nothing of a source: of how the table was made."""
COMPARISONS = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal, "==": pc.equal,
               "!=": pc.not_equal}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Columns:
    """What an operator, or the declaration of a catalog, says of its columns.

    Attributes
    ----------
    ra, dec
        Names of the columns of positions; looked for where they are not given.
    id
        Column whose values become ``_id``; else rows get ids of file and number.
    id_as_text, keep_id
        Whether ids become texts, and whether the column stays, too.
    unit
        Of positions; by default what the file says, else degrees.
    no_positions
        The catalog has none.
    position_from
        Collection of the archive from which positions are taken, by id.
    only, renamed
        Columns that are kept (all), and new names of some.
    nulls
        Numbers and texts that stand for no value.
    keep
        Column -> (comparison, value): rows that are kept.
    constants
        Fields that every document gets.
    dropped
        Columns that are left out.
    """

    ra: str | None = None
    dec: str | None = None
    id: str | None = None
    id_as_text: bool = False
    keep_id: bool = False
    unit: Unit | None = None
    no_positions: bool = False
    position_from: str | None = None
    only: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    keep: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    def resolve(self, layout: Layout) -> Resolved:
        """Find the columns in a table.

        Raises
        ------
        IngestError
            If one that is named is not there, or there are no positions.
        """
        names = layout.names
        for name in (self.ra, self.dec, self.id, *self.only, *self.renamed, *self.keep):
            if name is not None and name not in names:
                raise IngestError(f"there is no column {name!r}; there are {', '.join(names)}")
        if self.position_from is not None and self.id is None:
            raise IngestError("positions from another catalog are found by id: say which column holds it (--id)")
        ra, dec = self.ra, self.dec
        if not self.no_positions and self.position_from is None and (ra is None or dec is None):
            ra, dec = _positions(names, ra, dec)
        given = UNITS.get(layout.units.get(ra or "", "").strip().lower(), "deg")
        taken = {self.id} if self.id is not None and not self.keep_id else set()
        kept = [name for name in self.only or names if name not in taken | LEFT_OUT | self.dropped]
        fields = {name: field_name(self.renamed.get(name, name)) for name in kept}
        if len(set(fields.values())) < len(fields):
            twice = sorted(name for name in fields.values() if list(fields.values()).count(name) > 1)
            raise IngestError(f"two columns would be called {twice[0]!r}; rename one (--rename)")
        return Resolved(ra, dec, self.id, self.unit or given, fields)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The columns of one table: names of them, and column -> field for those that are stored."""

    ra: str | None
    dec: str | None
    id: str | None
    unit: Unit
    fields: Mapping[str, str]


def field_name(name: str) -> str:
    """Make a name that MongoDB takes, and that takes nothing of ours away."""
    clean = name.replace(".", "_").replace("\0", "").lstrip("$") or "column"
    return f"{clean}_" if clean in {"coordinates", "_id"} else clean


def degrees(values: pa.Array, unit: Unit, *, is_ra: bool) -> tuple[Floats, Bools]:
    """Read a column of angles, in degrees; also tell which could be read.

    Texts are decimal numbers, or sexagesimal: hours for right ascension, degrees for declination.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        numbers = (
            np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), float) * DEGREES[unit]
        )
        return numbers, np.isfinite(numbers)
    parts = pc.extract_regex(pc.utf8_trim_whitespace(values.cast(pa.string())), SEXAGESIMAL)
    if parts.null_count == len(parts):
        try:
            return degrees(values.cast(pa.float64()), unit, is_ra=is_ra)
        except pa.ArrowInvalid:
            return np.full(len(values), np.nan), np.zeros(len(values), bool)
    whole, minutes, seconds = (_numbers(parts.field(name)) for name in ("unit", "minute", "second"))
    sign = np.where(parts.field("sign").fill_null("").to_numpy(zero_copy_only=False) == "-", -1.0, 1.0)
    angle = sign * (whole + minutes / 60.0 + seconds / 3600.0) * (15.0 if is_ra else 1.0)
    valid = np.asarray(parts.is_valid().to_numpy(zero_copy_only=False), bool) & (minutes < 60.0) & (seconds < 60.0)
    return angle, valid


def without_nulls(values: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Take out what stands for no value, and texts without any character."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        marks = pa.array(["", *nulls], kind)
    elif (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and nulls:
        marks = pa.array([float(text) for text in nulls if _is_number(text)], pa.float64())
        return pc.if_else(pc.is_in(values.cast(pa.float64(), safe=False), marks), pa.scalar(None, kind), values)
    else:
        return values
    return pc.if_else(pc.is_in(values, marks), pa.scalar(None, kind), values)


def kept(table: pa.RecordBatch, conditions: Mapping[str, tuple[str, Any]]) -> Bools:
    """Tell which rows meet all conditions."""
    good = np.ones(table.num_rows, bool)
    for name, (comparison, value) in conditions.items():
        met = COMPARISONS[comparison](table.column(name), pa.scalar(value))
        good &= np.asarray(met.fill_null(False).to_numpy(zero_copy_only=False), bool)
    return good


def find_positions(names: Sequence[str], ra: str | None, dec: str | None) -> tuple[str, str] | None:
    """Find the columns of right ascension and declination by their names, where they are not given."""
    by_lower = {name.lower(): name for name in reversed(names)}
    for first, second in PAIRS:
        found = ra or by_lower.get(first), dec or by_lower.get(second)
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def _positions(names: Sequence[str], ra: str | None, dec: str | None) -> tuple[str, str]:
    found = find_positions(names, ra, dec)
    if found is None:
        raise IngestError(
            f"no columns of positions are known by their names among {', '.join(names)}; name them (--ra, --dec), "
            "say that there are none (--no-positions), or take them from another catalog (--position-from-catalog)"
        )
    return found


def _numbers(texts: pa.Array) -> Floats:
    return np.asarray(texts.fill_null("0").cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
