"""Columns of a table to BSON documents, column by column: no Python object is made per value.

Each column becomes an Arrow array of BSON elements (https://bsonspec.org/spec.html), in which a null is an element that
is left out; the documents are these arrays, joined row by row. On rows of ten numbers that takes a tenth of the time of
making dictionaries and encoding them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import bson
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kowalski.science.coordinates import Floats, healpix_cells

DOUBLE, STRING, OBJECT, ARRAY, BINARY, OBJECT_ID, BOOLEAN, DATE, INT32, INT64 = (
    1, 2, 3, 4, 5, 7, 8, 9, 16, 18,
)  # fmt: skip
FRAME = 5
"""Bytes of a document beside its elements: length and end."""
LARGEST = 2**63 - 1

Elements: TypeAlias = Any
"""Shape (n,), binary: one BSON element per row, null where the row has none."""


def documents(elements: Sequence[Elements]) -> pa.Array:
    """Join the elements of each row to a document; shape (n,), binary."""
    body = _joined(elements)
    size = pc.binary_length(body).to_numpy() + FRAME
    return pc.binary_join_element_wise(_packed(b"", size.astype("<i4")), body, b"\0", b"")


def nested(name: str, elements: Sequence[Elements], kind: int = OBJECT) -> Elements:
    """Make an element of each row that is a document, or an array whose elements are called 0, 1 and so on."""
    inner = documents(elements)
    return pc.binary_join_element_wise(_head(kind, name), inner, b"")


def column(name: str, values: pa.Array) -> Elements:
    """Make an element of each value of a column; NaN counts as null.

    Parameters
    ----------
    values
        Of any type; integers of up to 32 bits become int32, others int64; decimals become doubles.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return column(name, values.cast(kind.value_type))
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return column(name, values.cast(pa.float64()))
    if pa.types.is_floating(kind):
        numbers = values.to_numpy(zero_copy_only=False).astype("<f8")
        return _fixed(DOUBLE, name, numbers, ~np.isnan(numbers))
    if pa.types.is_boolean(kind):
        return _fixed(BOOLEAN, name, _filled(values, pa.uint8()).astype("u1"), _valid(values))
    if pa.types.is_integer(kind):
        small = kind.bit_width < 32 or kind == pa.int32()
        if kind == pa.uint64() and (pc.max(values).as_py() or 0) > LARGEST:
            return column(name, values.cast(pa.float64(), safe=False))
        numbers = _filled(values, pa.int64()).astype("<i4" if small else "<i8")
        return _fixed(INT32 if small else INT64, name, numbers, _valid(values))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        moments = values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
        return _fixed(DATE, name, _filled(moments, pa.int64()).astype("<i8"), _valid(values))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _texts(name, values.cast(pa.string()).cast(pa.binary()))
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.binary())
    return pa.array(
        [None if value is None else bson.encode({name: _plain(value)})[4:-1] for value in values.to_pylist()],
        pa.binary(),
    )


def object_ids(name: str, prefix: bytes, numbers: NDArray[np.int64]) -> Elements:
    """Make ObjectIds of a prefix of 7 bytes and a number of 5."""
    rows = np.zeros(numbers.size, [("head", f"S{len(name) + 2}"), ("prefix", "V7"), ("number", "V5")])
    rows["head"] = bytes([OBJECT_ID]) + name.encode() + b"\0"
    rows["prefix"] = np.void(prefix)
    rows["number"] = np.ascontiguousarray(numbers.astype(">i8").view("u1").reshape(-1, 8)[:, 3:]).view("V5").ravel()
    return _binary(rows)


def coordinates(ra: Floats, dec: Floats, orders: Sequence[int]) -> Elements:
    """Make the ``coordinates`` of positions in degrees: radec_str, radec_geojson (longitude RA - 180), cells."""
    right, declination = sexagesimal(ra, dec)
    texts = nested("radec_str", [_texts("0", right), _texts("1", declination)], ARRAY)
    n = ra.size
    everywhere = np.ones(n, bool)
    pair = [_fixed(DOUBLE, "0", ra - 180.0, everywhere), _fixed(DOUBLE, "1", dec, everywhere)]
    point = [_texts("type", pa.array([b"Point"] * n, pa.binary())), nested("coordinates", pair, ARRAY)]
    cells = [_fixed(INT64, f"hpx_{order}", healpix_cells(ra, dec, order).astype("<i8"), everywhere) for order in orders]
    return nested("coordinates", [texts, nested("radec_geojson", point), *cells])


def sexagesimal(ra: Floats, dec: Floats) -> tuple[pa.Array, pa.Array]:
    """Write positions as `kowalski.science.coordinates.sexagesimal` does, all at once; two binary arrays."""
    ticks = np.round(ra / 15.0 * 3600.0 * 10_000).astype(np.int64) % (24 * 3600 * 10_000)
    hours, rest = np.divmod(ticks, 3600 * 10_000)
    right = _packed(b"", _digits(hours, 2)), _minutes(rest, 4)
    degrees, rest = np.divmod(np.round(np.abs(dec) * 3600.0 * 1000).astype(np.int64), 3600 * 1000)
    signed = np.where(dec < 0.0, degrees + 91, degrees)
    written = pa.array([f"{d:02d}".encode() for d in range(91)] + [f"-{d}".encode() for d in range(91)], pa.binary())
    return _joined(right), _joined([written.take(pa.array(signed)), _minutes(rest, 3)])


def _minutes(ticks: NDArray[np.int64], decimals: int) -> pa.Array:
    minutes, seconds = np.divmod(ticks, 60 * 10**decimals)
    whole, part = np.divmod(seconds, 10**decimals)
    rows = np.empty(
        ticks.size, [("a", "S1"), ("m", "V2"), ("b", "S1"), ("s", "V2"), ("c", "S1"), ("f", f"V{decimals}")]
    )
    rows["a"] = rows["b"] = b":"
    rows["c"] = b"."
    rows["m"], rows["s"], rows["f"] = _digits(minutes, 2), _digits(whole, 2), _digits(part, decimals)
    return _binary(rows)


def _digits(numbers: NDArray[np.int64], count: int) -> NDArray[np.void]:
    powers = 10 ** np.arange(count - 1, -1, -1)
    digits = (numbers[:, None] // powers % 10 + ord("0")).astype("u1")
    return np.ascontiguousarray(digits).view(f"V{count}").ravel()


def _texts(name: str, values: pa.Array) -> Elements:
    size = _filled(pc.binary_length(values), pa.int64()) + 1
    head = _packed(bytes([STRING]) + name.encode() + b"\0", size.astype("<i4"))
    return pc.binary_join_element_wise(head, values, b"\0", b"")


def _head(kind: int, name: str) -> pa.Scalar:
    return pa.scalar(bytes([kind]) + name.encode() + b"\0", pa.binary())


def _joined(elements: Sequence[Elements]) -> pa.Array:
    return pc.binary_join_element_wise(*elements, b"", null_handling="replace", null_replacement=b"")


def _fixed(kind: int, name: str, numbers: NDArray[Any], valid: NDArray[np.bool_]) -> Elements:
    return _packed(bytes([kind]) + name.encode() + b"\0", numbers, valid)


def _packed(head: bytes, numbers: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    rows = np.empty(
        numbers.size, [("head", f"V{len(head)}"), ("value", numbers.dtype)] if head else [("value", numbers.dtype)]
    )
    if head:
        rows["head"] = np.void(head)
    rows["value"] = numbers
    return _binary(rows, valid)


def _binary(rows: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Look at the rows of a structured array as binary values."""
    n, size = rows.size, rows.dtype.itemsize
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(size)
    bitmap = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(
        pa.binary(), n, [bitmap, pa.py_buffer(offsets), pa.py_buffer(rows.view("u1") if n else b"")]
    )


def _filled(values: pa.Array, kind: pa.DataType) -> NDArray[Any]:
    return np.asarray(values.cast(kind).fill_null(0).to_numpy(zero_copy_only=False))


def _valid(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False), bool)


def _plain(value: Any) -> Any:
    """Take nulls out of nested documents."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None and each == each}
    return [_plain(each) for each in value] if isinstance(value, list) else value
