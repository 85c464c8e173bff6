"""Triplets: the preparation of the models' authors, and which alerts have none."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from kowalski.science import triplets
from kowalski.surveys.base import Stamps


def packed(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.asarray(image, np.float32)).writeto(buffer)
    return gzip.compress(buffer.getvalue(), compresslevel=1)


def noise(seed: int, rows: int = 63, columns: int = 63) -> np.ndarray:
    return np.random.default_rng(seed).normal(10.0, 3.0, (rows, columns)).astype(np.float32)


def stamps_of(*images: np.ndarray) -> Stamps:
    science, template, difference = (packed(image) for image in images)
    return Stamps(science, template, difference)


def reference(image: np.ndarray) -> np.ndarray:
    """One stamp as braai's and BTSbot's authors prepare it, step by step."""
    cleaned = np.nan_to_num(image.astype(np.float32))
    with np.errstate(over="ignore"):
        normed = cleaned / np.linalg.norm(cleaned)
    high = [(0, 63 - side) for side in image.shape]
    return np.pad(normed, high, mode="constant", constant_values=1e-9)


GOOD = stamps_of(noise(1), noise(2), noise(3))


@given(st.integers(1, 63), st.integers(1, 63), st.integers(0, 40), st.integers(0, 1000))
def test_a_triplet_is_what_the_authors_make(rows: int, columns: int, gaps: int, seed: int) -> None:
    images = [noise(seed + channel, rows, columns) for channel in range(3)]
    random = np.random.default_rng(seed)
    for image in images:
        image.flat[random.integers(1, image.size, gaps) if image.size > 1 else []] = np.nan
    array, valid = triplets.make([stamps_of(*images)])
    assert array.dtype == np.float32
    assert valid.tolist() == [True]
    np.testing.assert_allclose(array[0], np.dstack([reference(image) for image in images]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("huge", [3e38, 1e25, np.inf, -np.inf])
def test_a_norm_beyond_single_precision_leaves_zeros(huge: float) -> None:
    image = noise(1)
    image[3, 4] = huge
    array, valid = triplets.make([stamps_of(image, noise(2), noise(3))])
    assert valid[0]
    assert not array[0, :, :, 0].any()
    assert array[0, :, :, 1].any()


@pytest.mark.parametrize("channel", ["science", "template", "difference"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "is missing"),
        (packed(np.zeros((63, 63))), "is zero everywhere"),
        (packed(np.full((63, 63), np.nan)), "is zero everywhere"),
        (b"rubbish", "can't be read"),
        (packed(noise(1, 64, 63)), "64 x 63 pixels, more than 63 x 63"),
    ],
    ids=["missing", "zero", "nan", "unreadable", "large"],
)
@pytest.mark.filterwarnings("ignore")
def test_an_unusable_stamp_concerns_its_alert_alone(channel: str, data: bytes | None, reason: str) -> None:
    bad = replace(GOOD, **{channel: data})
    array, valid = triplets.make([GOOD, bad, GOOD])
    assert valid.tolist() == [True, False, True]
    assert not array[1].any()
    np.testing.assert_array_equal(array[0], array[2])
    explanation = triplets.explain(bad)
    assert explanation is not None
    assert explanation.startswith(f"the {channel} stamp")
    assert reason in explanation


def test_a_good_alert_needs_no_explanation() -> None:
    assert triplets.explain(GOOD) is None


def test_the_buffer_is_used_again() -> None:
    buffer = np.full((4, 63, 63, 3), np.nan, np.float32)
    small = stamps_of(noise(4, 40, 63), noise(5, 40, 63), noise(6, 40, 63))
    for batch in ([GOOD, GOOD, GOOD], [small, Stamps(None, None, None)]):
        array, _ = triplets.make(batch, buffer)
        assert np.shares_memory(array, buffer)
        np.testing.assert_array_equal(array, triplets.make(batch)[0])


@pytest.mark.parametrize("buffer", [np.empty((1, 63, 63, 3), np.float32), np.empty((2, 63, 63, 3), np.float64)])
def test_a_wrong_buffer_is_refused(buffer: np.ndarray) -> None:
    with pytest.raises(ValueError, match="out must be a float32 array"):
        triplets.make([GOOD, GOOD], buffer)


def test_no_alerts_give_no_triplets() -> None:
    array, valid = triplets.make([])
    assert array.shape == (0, 63, 63, 3)
    assert valid.shape == (0,)
