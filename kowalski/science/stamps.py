"""Stamps: the small FITS images (cutouts) that come with an alert.

The format is that of the FITS Standard 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html), usually inside gzip.
Alerts of one survey share a handful of headers, so a plain image is read by looking its header up and viewing the
data block; everything else (scaled values, several HDUs) goes through astropy.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "Image", "StampError", "read"]

Image = NDArray[np.float32]
"""A stamp: (rows, columns), in the survey's units; row 0 is the first one stored."""

MAX_BYTES = 4 * 1024 * 1024
"""Largest stamp, uncompressed: an image of 1000 x 1000 float32 pixels fits."""

BLOCK = 2880
CARD = 80
GZIP = b"\x1f\x8b"
PIXELS = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""``BITPIX`` -> type of the stored pixels."""

KEYWORD = re.compile(rb"([A-Z0-9_-]+) *(?:= *(\S+))?")
SCALING = {b"BSCALE", b"BZERO", b"BLANK"}
END = b"END".ljust(CARD)


class StampError(Exception):
    """The bytes of a stamp are no readable image; the text says why."""


class Layout(NamedTuple):
    """Where the pixels of a plain two-dimensional image lie in its file."""

    dtype: np.dtype[np.generic]
    offset: int
    rows: int
    columns: int


def read(data: bytes) -> Image:
    """Read a stamp as it came in an alert.

    Parameters
    ----------
    data
        A FITS file, plain or in gzip.

    Returns
    -------
    ndarray
        The pixels, (rows, columns) float32; the caller may change them. NaN pixels stay NaN.

    Raises
    ------
    StampError
        If the bytes are cut off, damaged, larger than `MAX_BYTES` or hold no two-dimensional image.
    """
    content = unpacked(data)
    layout = _layout(content[:BLOCK])
    if layout is None:
        return _read_with_astropy(content)
    size = layout.rows * layout.columns
    if len(content) < layout.offset + size * layout.dtype.itemsize:
        raise StampError(f"its image of {layout.rows} x {layout.columns} pixels is cut off after {len(content)} bytes")
    pixels = np.frombuffer(content, layout.dtype, size, layout.offset).reshape(layout.rows, layout.columns)
    if layout.dtype.itemsize == 4:
        return pixels.astype(np.float32)
    with np.errstate(over="ignore"):  # only wider numbers can be too large
        return pixels.astype(np.float32)


def unpacked(data: bytes) -> bytes:
    """Give the FITS file that a stamp is, out of its gzip if it is in one.

    Raises
    ------
    StampError
        If the gzip data are damaged or cut off, or hold more than `MAX_BYTES`.
    """
    return gunzip(data) if data[:2] == GZIP else data


def gunzip(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """Decompress gzip data of one or more members, at most ``limit`` bytes of content.

    Raises
    ------
    StampError
        If the data are damaged or cut off, or hold more than ``limit`` bytes.
    """
    content = b""
    rest = data
    while rest[:2] == GZIP:
        member = isal_zlib.decompressobj(wbits=31)
        try:
            content += member.decompress(rest, limit + 1 - len(content))
        except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance
            raise StampError(f"its gzip data are damaged: {error}") from error
        if len(content) > limit:
            raise StampError(f"it holds more than {limit} bytes")
        if not member.eof:
            raise StampError(f"its gzip data are cut off after {len(data)} bytes")
        rest = member.unused_data
    return content


@lru_cache(maxsize=256)
def _layout(header: bytes) -> Layout | None:
    """Find the pixels of a file by its first block; None unless it is a plain image with a header of one block."""
    end = next((at for at in range(0, len(header), CARD) if header[at : at + CARD] == END), None)
    if len(header) < BLOCK or end is None or not header.startswith(b"SIMPLE  ="):
        return None
    cards: dict[bytes, bytes] = {}
    for at in range(0, end, CARD):
        found = KEYWORD.match(header, at, at + CARD)
        if found is not None:
            cards[found[1]] = found[2] or b""
    if SCALING & cards.keys() or cards[b"SIMPLE"] != b"T" or cards.get(b"NAXIS") != b"2":
        return None
    try:
        pixels = PIXELS[int(cards[b"BITPIX"])]
        rows, columns = int(cards[b"NAXIS2"]), int(cards[b"NAXIS1"])
    except (KeyError, ValueError):
        return None
    return Layout(np.dtype(pixels), BLOCK, rows, columns) if rows > 0 and columns > 0 else None


def _is_plane(pixels: object) -> bool:
    return isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.size > 0


def _read_with_astropy(content: bytes) -> Image:
    """Read the first HDU that holds an image, with all of the standard's rules but compression."""
    if not content.startswith(b"SIMPLE"):  # astropy would look for an archive, and unpack one of any size
        raise StampError("its bytes are no FITS file")
    # Imported here: hardly any process ever needs it, and it costs each one 30 MB.
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyError

    try:
        with fits.open(
            io.BytesIO(content), memmap=False, ignore_missing_simple=True, disable_image_compression=True
        ) as units:
            for unit in units:
                if isinstance(unit, fits.PrimaryHDU | fits.ImageHDU) and _is_plane(unit.data):
                    with np.errstate(over="ignore"):
                        return np.array(unit.data, dtype=np.float32)
    except (OSError, VerifyError, ValueError, TypeError, KeyError) as error:
        raise StampError(f"it is no readable FITS file: {' '.join(str(error).split())}") from error
    raise StampError("its FITS file holds no two-dimensional image")
