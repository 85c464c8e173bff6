"""Binary tables of FITS files from strangers: read where they lie, within bounds.

The format is that of the FITS Standard 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html). Astropy reads any FITS file
there is; but it unpacks archives of any size, and reads headers and whole tables into memory, before one may look.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from astropy.io.fits import Header
from astropy.io.fits.verify import VerifyError
from isal import isal_zlib
from numpy.typing import NDArray

BLOCK = 2880
CARD = 80
END = b"END".ljust(CARD)
GZIP = b"\x1f\x8b"
CHUNK = 1 << 20
MAX_HEADER = 200 * BLOCK
"""Bytes of a header: 7200 cards."""
MAX_UNITS = 20
"""Extensions that are looked at."""
MAX_FIELDS = 999
"""The Standard's own limit of columns."""

FORMATS = {"B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
"""Columns of numbers; others are skipped over."""
WIDTHS = {"L": 1.0, "A": 1.0, "X": 0.125, "C": 8.0, "M": 16.0, "P": 8.0, "Q": 16.0} | {
    code: float(dtype[2]) for code, dtype in FORMATS.items()
}
FORM = re.compile(r"\s*(\d{0,9})([LAXBIJKEDCMPQ])")

Values = NDArray[Any]


class FitsError(ValueError):
    """A file is no FITS file, damaged or too large; the text says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A binary table.

    Attributes
    ----------
    header
        Of the table's extension.
    columns
        By upper-case name, those that hold plain numbers: (rows, elements), as stored; nothing is read yet.
    """

    header: Header
    columns: dict[str, Values]


@contextmanager
def first_table(data: bytes, max_bytes: int) -> Iterator[Table]:
    """Find the first binary table of a file, plain or in gzip.

    Raises
    ------
    FitsError
        If there is none, the file is damaged, or is larger than ``max_bytes`` when unpacked.
    """
    if data[:2] != GZIP:
        if len(data) > max_bytes:
            raise FitsError(f"it is larger than {max_bytes} bytes")
        yield _find(np.frombuffer(data, np.uint8))
        return
    # A file, not memory: maps of 200 MB, most of it zeros, come in 200 kB.
    with tempfile.TemporaryFile() as file:
        _unpack(data, file, max_bytes)
        if file.tell() < BLOCK:
            raise FitsError("its bytes are no FITS file")
        file.flush()
        yield _find(np.memmap(file, np.uint8, mode="r"))


def _unpack(data: bytes, file: IO[bytes], max_bytes: int) -> None:
    rest = data
    while rest.startswith(GZIP):
        member = isal_zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                piece = member.decompress(rest, CHUNK)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance
                raise FitsError(f"its gzip data are damaged: {error}") from error
            rest = member.unconsumed_tail
            file.write(piece)
            if file.tell() > max_bytes:
                raise FitsError(f"it is larger than {max_bytes} bytes when unpacked")
            if not piece and not rest and not member.eof:
                raise FitsError("its gzip data are cut off")
        rest = member.unused_data


def _find(content: NDArray[np.uint8]) -> Table:
    if content[:9].tobytes() != b"SIMPLE  =":
        raise FitsError("its bytes are no FITS file")
    at = 0
    for _ in range(MAX_UNITS):
        header, begin = _header(content, at)
        try:
            if str(header.get("XTENSION", "")).strip() == "BINTABLE":
                return Table(header, _columns(header, content[begin:]))
            at = begin + math.ceil(_data_size(header) / BLOCK) * BLOCK
        except (VerifyError, KeyError, TypeError, ValueError) as error:
            raise FitsError(f"a header of it is no proper one: {' '.join(str(error).split())[:200]}") from error
        if at >= content.size:
            break
    raise FitsError("it holds no binary table")


def _header(content: NDArray[np.uint8], at: int) -> tuple[Header, int]:
    """Read the header that begins at a byte; also give where it ends."""
    for size in range(BLOCK, MAX_HEADER + 1, BLOCK):
        block = content[at + size - BLOCK : at + size].tobytes()
        if len(block) < BLOCK:
            raise FitsError("it ends within a header")
        if any(block[card : card + CARD] == END for card in range(0, BLOCK, CARD)):
            text = content[at : at + size].tobytes()
            if not text.isascii():
                raise FitsError("a header of it has other characters than ASCII")
            return Header.fromstring(text.decode()), at + size
    raise FitsError(f"a header of it is longer than {MAX_HEADER} bytes")


def _data_size(header: Header) -> int:
    axes = [_whole(header, f"NAXIS{axis + 1}") for axis in range(min(_whole(header, "NAXIS"), 999))]
    if not axes:
        return 0
    elements = math.prod(axes)
    extra, groups = int(header.get("PCOUNT", 0)), int(header.get("GCOUNT", 1))
    size = abs(int(header["BITPIX"])) // 8 * groups * (extra + elements)
    if size < 0:
        raise ValueError("a size below zero")
    return size


def _columns(header: Header, content: NDArray[np.uint8]) -> dict[str, Values]:
    width, rows, fields = (_whole(header, name) for name in ("NAXIS1", "NAXIS2", "TFIELDS"))
    if fields > MAX_FIELDS:
        raise FitsError(f"its table has more than {MAX_FIELDS} columns")
    if width * rows > content.size:
        raise FitsError("it ends within its table")
    table = content[: width * rows].reshape(rows, width)
    columns: dict[str, Values] = {}
    offset = 0
    for number in range(1, fields + 1):
        form = FORM.match(str(header[f"TFORM{number}"]))
        if form is None:
            raise ValueError(f"TFORM{number} is {header[f'TFORM{number}']!r}")
        count, code = int(form[1] or 1), form[2]
        size = math.ceil(count * WIDTHS[code])
        if offset + size > width:
            raise ValueError("its columns are wider than its rows")
        scaled = header.get(f"TSCAL{number}", 1) != 1 or header.get(f"TZERO{number}", 0) != 0
        if code in FORMATS and size and not scaled:
            name = str(header.get(f"TTYPE{number}", "")).strip().upper()
            columns[name] = _view(table, offset, size, FORMATS[code])
        offset += size
    return columns


def _view(table: NDArray[np.uint8], offset: int, size: int, dtype: str) -> Values:
    """Look at a column as numbers, without a copy."""
    fields = np.dtype({"names": ["x"], "formats": [(dtype, (size // int(dtype[2]),))], "offsets": [offset],
                       "itemsize": table.shape[1]})  # fmt: skip
    return table.reshape(-1).view(fields)["x"] if table.size else np.empty((0, 1), dtype)


def _whole(header: Header, name: str) -> int:
    value = header[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value
