"""Stamps: equal to what astropy reads, whatever the file, and no file that does harm."""

from __future__ import annotations

import contextlib
import gzip
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kowalski import surveys
from kowalski.science import stamps
from kowalski.science.stamps import StampError, gunzip, read


def plain(pixels: np.ndarray, *cards: str) -> bytes:
    """A FITS file written by hand, with further header cards."""
    bits = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}[pixels.dtype.str[1:]]
    rows, columns = pixels.shape
    header = [
        "SIMPLE  =                    T", f"BITPIX  = {bits:>20}", "NAXIS   =                    2",
        f"NAXIS1  = {columns:>20}", f"NAXIS2  = {rows:>20}", *cards, "END",
    ]  # fmt: skip
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return _padded("".join(card.ljust(80) for card in header).encode()) + _padded(data, b"\0")


def _padded(data: bytes, fill: bytes = b" ") -> bytes:
    return data + fill * (-len(data) % 2880)


def with_astropy(content: bytes) -> np.ndarray:
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(content), ignore_missing_simple=True) as units:
            image = next(unit.data for unit in units if unit.data is not None)
            return np.asarray(image).astype(np.float32)


def images() -> st.SearchStrategy[np.ndarray]:
    kinds = st.sampled_from(["u1", "i2", "i4", "i8", "f4", "f8"]).map(np.dtype)
    return kinds.flatmap(lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=2, max_dims=2, max_side=70)))


@given(images(), st.booleans())
def test_any_image_is_read_as_astropy_does(pixels: np.ndarray, compressed: bool) -> None:
    content = plain(pixels)
    found = read(gzip.compress(content) if compressed else content)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert found.flags.writeable
    np.testing.assert_array_equal(found, with_astropy(content))


@given(npst.arrays(np.int16, (5, 7)), st.floats(-1e3, 1e3), st.floats(0.01, 1e3))
def test_scaled_values_are_read_as_astropy_does(pixels: np.ndarray, zero: float, scale: float) -> None:
    content = plain(pixels, f"BZERO   = {zero:>20.8E}", f"BSCALE  = {scale:>20.8E}")
    np.testing.assert_array_equal(read(content), with_astropy(content))


def test_blank_pixels_are_nan() -> None:
    assert np.isnan(read(plain(np.array([[1, -32768]], np.int16), "BLANK   =               -32768"))[0, 1])


@given(st.binary(max_size=3000), st.integers(0, 5760))
def test_damage_is_named_or_harmless(noise: bytes, at: int) -> None:
    content = plain(np.ones((20, 20), np.float32))
    damaged = content[:at] + noise + content[at + len(noise) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(StampError):  # anything else would end the test
            assert read(damaged).ndim == 2


@given(st.integers(0, 1200))
def test_cut_off_gzip_is_refused(length: int) -> None:
    whole = gzip.compress(plain(np.random.default_rng(1).normal(size=(30, 30)).astype(np.float32)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(StampError):
            read(whole[:length])


def test_several_hdus_give_the_first_image() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels), fits.ImageHDU(pixels + 1)]).writeto(buffer)
    np.testing.assert_array_equal(read(buffer.getvalue()), pixels)


def test_a_long_header_is_read() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    notes = [f"KEY{number:<5}= {number:>20}" for number in range(60)]
    np.testing.assert_array_equal(read(plain(pixels, *notes)), pixels)


def test_a_cube_is_no_stamp() -> None:
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((2, 3, 4), np.float32)).writeto(buffer)
    with pytest.raises(StampError, match="no two-dimensional image"):
        read(buffer.getvalue())


def test_pixels_that_are_not_there_are_named() -> None:
    with pytest.raises(StampError, match="63 x 63 pixels is cut off after 5760 bytes"):
        read(plain(np.ones((63, 63), np.float32))[:5760])


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"no image at all", b"\x1f\x8b" + bytes(50)])
@pytest.mark.filterwarnings("ignore")
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StampError):
        read(data)


def test_a_bomb_is_not_expanded() -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), compresslevel=9)
    with pytest.raises(StampError, match=f"more than {stamps.MAX_BYTES} bytes"):
        read(bomb)


def test_a_bomb_in_a_bomb_is_not_expanded() -> None:
    with pytest.raises(StampError, match="no FITS file"):
        read(gzip.compress(gzip.compress(bytes(8 * 1024 * 1024))))


def test_compressed_tiles_are_not_expanded() -> None:
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((50, 50), np.float32))]).writeto(buffer)
    with pytest.raises(StampError, match="no two-dimensional image"):
        read(buffer.getvalue())


def test_a_bomb_of_many_members_is_not_expanded() -> None:
    with pytest.raises(StampError, match="more than 1000 bytes"):
        gunzip(gzip.compress(bytes(600)) * 2, limit=1000)


@given(st.lists(st.binary(max_size=500), min_size=1, max_size=4))
def test_members_are_joined(parts: list[bytes]) -> None:
    assert gunzip(b"".join(gzip.compress(part) for part in parts)) == b"".join(parts)


def test_a_damaged_checksum_is_refused() -> None:
    whole = bytearray(gzip.compress(plain(np.ones((9, 9), np.float32))))
    whole[-6] ^= 1
    with pytest.raises(StampError, match="damaged"):
        read(bytes(whole))


def sample_stamps(folder: Path) -> Iterator[bytes]:
    survey = surveys.get("ztf")
    for path in sorted(folder.glob("ztf_alerts/**/*.avro")):
        if path.parent.name != "damaged":
            with path.open("rb") as file:
                found = survey.stamps_of(next(fastavro.reader(file)))  # type: ignore[arg-type]
            yield from (data for data in (found.science, found.template, found.difference) if data is not None)


def test_every_sample_stamp_is_read_as_astropy_does(sample_data: Path) -> None:
    shapes = set()
    for data in sample_stamps(sample_data):
        image = read(data)
        shapes.add(image.shape)
        np.testing.assert_array_equal(image, with_astropy(gzip.decompress(data)))
    assert (63, 63) in shapes
    assert len(shapes) > 5, "the samples hold stamps cut off by the detector's edge"
