"""BSON, as the server sends it, to relaxed Extended JSON, in machine code that needs neither objects nor Python's lock.

Numba compiles it when it is first imported, which takes seconds, and keeps the result in its cache
(``NUMBA_CACHE_DIR``, or ``__pycache__``). That cache notices changes of this file alone, so all compiled code is in it.

Doubles are written with the fewest digits that are read back as the same number, by Schubfach: R. Giulietti, "The
Schubfach way to render doubles" (2020). Dates are split by the method of H. Hinnant, "chrono-Compatible Low-Level Date
Algorithms" (2013). What is rare is left to the caller: text that is not ASCII, and types that have no place in alerts.

Sources of the formats: https://bsonspec.org/spec.html,
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from pybase64 import b64encode

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
Bytes: TypeAlias = NDArray[np.uint8]
Places: TypeAlias = NDArray[np.int64]

GROWTH = 7
"""No document has more bytes of JSON than so many times its BSON (an empty binary without a name has 6.2 times)."""
SLACK = 64
"""Bytes that may be written beyond what counts in the end."""
SMALLEST = 5
"""Bytes of a document without anything, and no more than those of a binary value with its name."""
DEPTH = 100
"""Levels of nesting; MongoDB stores no more."""
REFUSED = -1
"""Instead of a position in the text: this document is left to the caller."""


def _compiled(function: F) -> F:
    return cast(F, njit(error_model="numpy")(function))  # which divides as processors do, without looking


def _inlined(function: F) -> F:
    """Compile into each place of use: a quarter faster, as arrays are costly to hand over."""
    return cast(F, njit(error_model="numpy", forceinline=True)(function))


def _bytes(text: bytes) -> Bytes:
    return np.frombuffer(text, np.uint8)


def _powers_of_ten() -> NDArray[np.uint64]:
    """For each k from ``LEAST_POWER`` the 128 bits of 10^k / 2^r, rounded up, whose first bit is set: two halves."""
    halves = []
    for k in range(LEAST_POWER, 325):
        numerator, denominator = 10 ** max(k, 0), 10 ** max(-k, 0)
        shift = 127 - (numerator.bit_length() - denominator.bit_length())
        power = _quotient(numerator, denominator, shift)
        if power < 1 << 127:
            power = _quotient(numerator, denominator, shift + 1)
        elif power >= 1 << 128:
            power = _quotient(numerator, denominator, shift - 1)
        halves.append(divmod(power, 1 << 64))
    return np.array(halves, np.uint64)


def _quotient(numerator: int, denominator: int, shift: int) -> int:
    return -((-numerator << max(shift, 0)) // (denominator << max(-shift, 0)))


LEAST_POWER = -292
POWERS = _powers_of_ten()
PAIRS = _bytes(b"".join(b"%02d" % number for number in range(100)))
HEX = _bytes(b"0123456789abcdef")
ESCAPES = _bytes(bytes(dict(zip(b'\b\t\n\f\r"\\', b'btnfr"\\', strict=True)).get(byte, 0) for byte in range(128)))
"""Letter after the backslash; 0: the byte has none."""

TRUE, FALSE, NULL = _bytes(b"true"), _bytes(b"false"), _bytes(b"null")
NUMBER, NAN, INFINITY = _bytes(b'{"$numberDouble":"'), _bytes(b'NaN"}'), _bytes(b'Infinity"}')
DATE, DATE_NUMBER = _bytes(b'{"$date":"'), _bytes(b'{"$date":{"$numberLong":"')
OBJECT_ID = _bytes(b'{"$oid":"')
BINARY, BINARY_END = _bytes(b'{"$binary":{"base64":"'), _bytes(b'","subType":"00"}}')
END, END_END = _bytes(b'"}'), _bytes(b'"}}')

QUOTE, BACKSLASH = ord('"'), ord("\\")
DOUBLE, STRING, DOCUMENT, ARRAY, BYTES, OID, BOOLEAN, MOMENT, NOTHING = 1, 2, 3, 4, 5, 7, 8, 9, 10
INT32, INT64 = 16, 18

_0, _1, _2, _4 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)
_10, _40, _100, _10000 = np.uint64(10), np.uint64(40), np.uint64(100), np.uint64(10_000)
_1E8 = np.uint64(10**8)
_FRACTION, _HIDDEN = np.uint64(2**52 - 1), np.uint64(2**52)
_52, _63, _EXPONENT, _POSITIVE = np.uint64(52), np.uint64(63), np.uint64(0x7FF), np.uint64(2**63 - 1)
LAST_DATE = 253_402_300_800_000
"""The year 10000, in ms since 1970."""


def _multiply(typing: Any, one: Any, other: Any) -> Any:
    """The upper 64 of the 128 bits of a product, as LLVM's instructions."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(value, wide) for value in values))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


_high: Callable[[Any, Any], Any] = cast(Any, intrinsic(_multiply))


@_inlined
def _round_to_odd(k: Any, number: Any) -> Any:
    """Multiply by 10^-k; the last bit says whether anything was cut off (section 9.9 of Schubfach)."""
    high, low = POWERS[-k - LEAST_POWER, 0], POWERS[-k - LEAST_POWER, 1]
    middle = high * number
    carried = middle + _high(low, number)
    product = _high(high, number) + (_1 if carried < middle else _0)
    return product | (_1 if carried > _1 else _0)


@_compiled
def _decimal(bits: Any) -> Any:
    """Give digits and exponent of a positive double: the shortest that lie nearer to it than to its neighbours."""
    fraction, exponent = bits & _FRACTION, np.int64(bits >> _52)
    number = fraction | _HIDDEN if exponent else fraction
    q = (exponent if exponent else 1) - 1075
    if -52 <= q <= 0 and (number >> np.uint64(-q)) << np.uint64(-q) == number:
        return number >> np.uint64(-q), 0  # a whole number
    is_closer = fraction == _0 and exponent > 1  # the neighbour below
    k = (q * 1262611 - (524031 if is_closer else 0)) >> 22
    shift = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    lower = _round_to_odd(k, (_4 * number - (_1 if is_closer else _2)) << shift)
    value = _round_to_odd(k, (_4 * number) << shift)
    upper = _round_to_odd(k, (_4 * number + _2) << shift)
    odd = number & _1
    lower, upper = lower + odd, upper - odd
    digits = value >> _2
    if digits >= _10:
        fewer = digits // _10
        below, above = lower <= _40 * fewer, _40 * fewer + _40 <= upper
        if below != above:
            return fewer + (_1 if above else _0), k + 1
    below, above = lower <= _4 * digits, _4 * digits + _4 <= upper
    middle = _4 * digits + _2
    if below == above:
        above = value > middle or (value == middle and digits & _1 == _1)
    return digits + (_1 if above else _0), k


@_compiled
def _length(number: Any) -> Any:
    """Count decimal digits."""
    digits = 1
    while number >= _10000:
        number //= _10000
        digits += 4
    while number >= _10:
        number //= _10
        digits += 1
    return digits


@_compiled
def _put_digits(out: Bytes, at: int, number: Any, digits: int) -> Any:
    end = at + digits
    while number >= _100:
        pair = 2 * np.int64(number % _100)
        number //= _100
        end -= 2
        out[end], out[end + 1] = PAIRS[pair], PAIRS[pair + 1]
    if number >= _10:
        out[end - 2] = PAIRS[2 * np.int64(number)]
    out[end - 1] = PAIRS[2 * np.int64(number) + 1]
    return at + digits


@_compiled
def _put_pair(out: Bytes, at: int, number: int) -> Any:
    out[at], out[at + 1] = PAIRS[2 * number], PAIRS[2 * number + 1]
    return at + 2


@_inlined
def _put_bytes(out: Bytes, at: int, text: Bytes) -> Any:
    for i in range(text.size):
        out[at + i] = text[i]
    return at + text.size


@_compiled
def _put_zeros(out: Bytes, at: int, count: int) -> Any:
    for i in range(count):
        out[at + i] = ord("0")
    return at + count


@_compiled
def _put_finite(out: Bytes, at: int, bits: Any) -> Any:
    """Write a double as 12.5, 12500000.0, 0.00125 or 1.25e-10."""
    if bits >> _63:
        out[at] = ord("-")
        at += 1
        bits &= _POSITIVE
    if bits == _0:
        return _put_zeros(out, _put_point(out, _put_zeros(out, at, 1)), 1)
    digits, exponent = _decimal(bits)
    if digits >= _1E8 and digits % _1E8 == _0:
        digits //= _1E8
        exponent += 8
    while digits % _10 == _0:
        digits //= _10
        exponent += 1
    length = _length(digits)
    point = length + exponent  # it is 0.digits times ten to this
    if 0 < point <= 16 and exponent >= 0:
        at = _put_zeros(out, _put_digits(out, at, digits, length), exponent)
        return _put_zeros(out, _put_point(out, at), 1)
    if -5 < point <= 0:
        at = _put_zeros(out, _put_point(out, _put_zeros(out, at, 1)), -point)
        return _put_digits(out, at, digits, length)
    whole = point if 0 < point <= 16 else 1  # digits before the point
    _put_digits(out, at + 1, digits, length)
    for i in range(whole):
        out[at + i] = out[at + i + 1]
    at += whole
    if length > whole:
        _put_point(out, at)
        at += length - whole + 1
    if 0 < point <= 16:
        return at
    out[at], out[at + 1] = ord("e"), ord("+")
    return _put_integer(out, at + (1 if point < 1 else 2), point - 1)


@_inlined
def _put_point(out: Bytes, at: int) -> Any:
    out[at] = ord(".")
    return at + 1


@_inlined
def _put_double(out: Bytes, at: int, bits: Any) -> Any:
    if (bits >> _52) & _EXPONENT != _EXPONENT:
        return _put_finite(out, at, bits)
    at = _put_bytes(out, at, NUMBER)
    if bits & _FRACTION:
        return _put_bytes(out, at, NAN)
    if bits >> _63:
        out[at] = ord("-")
        at += 1
    return _put_bytes(out, at, INFINITY)


@_inlined
def _put_integer(out: Bytes, at: int, number: Any) -> Any:
    size = np.uint64(number)
    if number < 0:
        out[at] = ord("-")
        at += 1
        size = _0 - size
    return _put_digits(out, at, size, _length(size))


@_inlined
def _put_text(out: Bytes, at: int, data: Bytes, start: int, end: int) -> Any:
    """Write text between quotes; `REFUSED` if it is not ASCII."""
    out[at] = ord('"')
    at += 1
    for i in range(start, end):
        byte = data[i]
        if 32 <= byte < 128 and byte != QUOTE and byte != BACKSLASH:
            out[at] = byte
            at += 1
            continue
        if byte >= 128:
            return REFUSED
        out[at] = BACKSLASH
        if ESCAPES[byte]:
            out[at + 1] = ESCAPES[byte]
            at += 2
        else:
            out[at + 1] = ord("u")
            _put_zeros(out, at + 2, 2)
            out[at + 4], out[at + 5] = HEX[byte >> 4], HEX[byte & 15]
            at += 6
    out[at] = ord('"')
    return at + 1


@_compiled
def _put_date(out: Bytes, at: int, moment: Any) -> Any:
    """Write a date, given in ms since 1970: as ISO 8601 within the years that Extended JSON has for it."""
    if not 0 <= moment < LAST_DATE:
        return _put_bytes(out, _put_integer(out, _put_bytes(out, at, DATE_NUMBER), moment), END_END)
    milliseconds, seconds = moment % 1000, moment // 1000 % 86400
    days = moment // 86_400_000 + 719_468  # since 1 March of the year 0
    era, day = days // 146_097, days % 146_097
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month += 3 if month < 10 else -9
    year += 400 * era + (1 if month <= 2 else 0)
    at = _put_bytes(out, at, DATE)
    at = _put_pair(out, _put_pair(out, at, year // 100), year % 100)
    for number, before in ((month, "-"), (day, "-"), (seconds // 3600, "T"), (seconds // 60 % 60, ":")):
        out[at] = ord(before)
        at = _put_pair(out, at + 1, number)
    out[at] = ord(":")
    at = _put_pair(out, at + 1, seconds % 60)
    if milliseconds:
        out[at] = ord(".")
        at = _put_digits(out, at + 1, np.uint64(1000 + milliseconds), 4)
        for i in range(at - 4, at - 1):
            out[i] = out[i + 1]
        at -= 1
    out[at] = ord("Z")
    return _put_bytes(out, at + 1, END)


@_compiled
def _put_object_id(out: Bytes, at: int, data: Bytes, start: int) -> Any:
    at = _put_bytes(out, at, OBJECT_ID)
    for i in range(start, start + 12):
        out[at], out[at + 1] = HEX[data[i] >> 4], HEX[data[i] & 15]
        at += 2
    return _put_bytes(out, at, END)


@_compiled
def _put_binary(out: Bytes, at: int, start: int, end: int, gaps: Places) -> Any:
    """Write what is around a binary value, and note where it goes itself: SIMD writes it ten times faster."""
    at = _put_bytes(out, at, BINARY)
    gaps[0, 0] += 1
    number = gaps[0, 0]
    gaps[number, 0], gaps[number, 1], gaps[number, 2] = at, start, end
    return _put_bytes(out, at + (end - start + 2) // 3 * 4, BINARY_END)


@_inlined
def _int32(data: Bytes, at: int) -> Any:
    number = np.uint32(0)
    for i in range(4):
        number |= np.uint32(data[at + i]) << np.uint32(8 * i)
    return np.int64(np.int32(number))


@_inlined
def _bits(data: Bytes, at: int) -> Any:
    number = _0
    for i in range(8):
        number |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return number


@_inlined
def _size(data: Bytes, at: int, end: int, kind: int) -> Any:
    """Bytes of a value; `REFUSED` if it is not one of ours or does not end where it should."""
    size = REFUSED
    if kind in (DOUBLE, INT64, MOMENT):
        size = 8
    elif kind == INT32:
        size = 4
    elif kind == NOTHING:
        size = 0
    elif kind == BOOLEAN and at < end and data[at] <= 1:
        size = 1
    elif kind == OID:
        size = 12
    elif at + 5 <= end:
        said = _int32(data, at)
        if kind == STRING and said >= 1 and at + 4 + said <= end and data[at + 3 + said] == 0:
            size = 4 + said
        elif kind == BYTES and said >= 0 and data[at + 4] == 0:
            size = 5 + said
        elif kind in (DOCUMENT, ARRAY) and said >= SMALLEST:
            size = said
    return size if at + size <= end else REFUSED


@_inlined
def _put_value(out: Bytes, at: int, data: Bytes, start: int, size: int, kind: int, gaps: Places) -> Any:
    """Write anything that is neither a document nor an array."""
    if kind == DOUBLE:
        return _put_double(out, at, _bits(data, start))
    if kind == INT32:
        return _put_integer(out, at, _int32(data, start))
    if kind == INT64:
        return _put_integer(out, at, np.int64(_bits(data, start)))
    if kind == STRING:
        return _put_text(out, at, data, start + 4, start + size - 1)
    if kind == BOOLEAN:
        return _put_bytes(out, at, TRUE if data[start] else FALSE)
    if kind == MOMENT:
        return _put_date(out, at, np.int64(_bits(data, start)))
    if kind == OID:
        return _put_object_id(out, at, data, start)
    if kind == BYTES:
        return _put_binary(out, at, start + 5, start + size, gaps)
    return _put_bytes(out, at, NULL)


@_compiled
def _put_document(out: Bytes, at: int, data: Bytes, start: int, end: int, gaps: Places) -> Any:
    """Write one document; `REFUSED` if something in it is left to the caller."""
    ends, is_array = np.empty(DEPTH, np.int64), np.empty(DEPTH, np.bool_)
    depth, ends[0], is_array[0] = 0, end - 1, False
    position, before = start + 4, np.uint8(ord("{"))
    while True:
        end = ends[depth]
        if position >= end:
            if position > end or data[position]:
                return REFUSED
            if before != ord(","):
                out[at] = before
                at += 1
            out[at] = ord("]") if is_array[depth] else ord("}")
            at, position, depth, before = at + 1, position + 1, depth - 1, np.uint8(ord(","))
            if depth < 0:
                return at
            continue
        out[at] = before
        at, before = at + 1, np.uint8(ord(","))
        kind, position, name = data[position], position + 1, position + 1
        while position < end and data[position]:
            position += 1
        if not is_array[depth]:
            at = _put_text(out, at, data, name, position)
            if at < 0:
                return REFUSED
            out[at] = ord(":")
            at += 1
        position += 1
        size = _size(data, position, end, kind)
        if size < 0:
            return REFUSED
        if kind in (DOCUMENT, ARRAY):
            depth += 1
            if depth == DEPTH:
                return REFUSED
            ends[depth], is_array[depth] = position + size - 1, kind == ARRAY
            position, before = position + 4, np.uint8(ord("[") if kind == ARRAY else ord("{"))
            continue
        at = _put_value(out, at, data, position, size, kind, gaps)
        if at < 0:
            return REFUSED
        position += size


def _put_all(data: Bytes, out: Bytes, ends: Places, gaps: Places) -> tuple[int, int]:
    """Write documents, up to one that is left to the caller; gives the bytes that are done, and how many documents."""
    start = at = count = 0
    while start + SMALLEST <= data.size:
        end = start + _int32(data, start)
        if end < start + SMALLEST or end > data.size:
            break
        if count:
            out[at] = ord(",")
            at += 1
        at = _put_document(out, at, data, start, end, gaps)
        if at < 0:
            break
        ends[count, 0] = at
        start, count = end, count + 1
    return start, count


def _ready() -> Callable[..., tuple[int, int]]:
    """Compile, or read what has been compiled before."""
    signature = "UniTuple(int64, 2)(Array(uint8, 1, 'C', readonly=True), uint8[::1], int64[:, ::1], int64[:, ::1])"
    with Path(__file__).open("rb") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX)  # the API's processes start at once: let one compile for all
        except OSError as error:
            log.info("%s can't be locked (%s): each process may compile for itself", own.name, error)
        try:
            compiled = njit(signature, nogil=True, error_model="numpy", cache=True)(_put_all)
        except RuntimeError as error:  # nowhere to keep it
            log.warning("%s; it is compiled at each start. Set NUMBA_CACHE_DIR to a folder that can be written", error)
            compiled = njit(signature, nogil=True, error_model="numpy")(_put_all)
    return cast("Callable[..., tuple[int, int]]", compiled)


_put = _ready()


def texts(batch: bytes, start: int = 0) -> tuple[int, bytes, list[int]]:
    """Encode documents of a batch, up to one that is left to the caller.

    Parameters
    ----------
    batch
        BSON documents, one after the other; best no more than the processor's cache holds.
    start
        Where to begin.

    Returns
    -------
    tuple
        Where in the batch the next document begins, the texts with commas between, and where in that each of them ends.
    """
    data = np.frombuffer(batch, np.uint8, offset=start)
    out = np.empty(GROWTH * data.size + SLACK, np.uint8)  # memory that is not written to costs nothing
    most = data.size // SMALLEST + 1
    ends, gaps = np.empty((most, 1), np.int64), np.empty((most, 3), np.int64)
    gaps[0, 0] = 0  # how many there are
    done, count = _put(data, out, ends, gaps)
    stamps = memoryview(batch)[start:]
    for at, begin, end in gaps[1 : gaps[0, 0] + 1].tolist():
        text = b64encode(stamps[begin:end])
        out[at : at + len(text)] = np.frombuffer(text, np.uint8)
    found: list[int] = ends[:count, 0].tolist()
    return start + done, out[: found[-1] if found else 0].tobytes(), found
