"""Cutouts: pictures against Matplotlib and astropy in every style, FITS files turned with their headers kept."""

from __future__ import annotations

import gzip
import io
from typing import Any, get_args

import numpy as np
import pytest
from astropy import visualization
from astropy.io import fits
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from kowalski.science import cutouts
from kowalski.science.colours import Colours
from kowalski.science.cutouts import Interval, Style
from kowalski.science.stamps import StampError
from kowalski.science.thumbnails import Curve

INTERVALS = {
    "asymmetric_percentile": visualization.AsymmetricPercentileInterval(1, 100),
    "min_max": visualization.MinMaxInterval(),
    "zscale": visualization.ZScaleInterval(n_samples=600, contrast=0.045, krej=2.5),
}
CURVES = {
    "linear": visualization.LinearStretch(),
    "log": visualization.LogStretch(),
    "asinh": visualization.AsinhStretch(),
    "sqrt": visualization.SqrtStretch(),
}


def star(rows: int = 63, columns: int = 63) -> NDArray[np.float32]:
    """A star with noise, a fainter neighbour, a missing pixel and a fill value."""
    y, x = np.mgrid[:rows, :columns]
    light = 900.0 * np.exp(-((y - rows / 2) ** 2 + (x - columns / 2) ** 2) / 6.0)
    light += 300.0 * np.exp(-((y - rows / 5) ** 2 + (x - columns / 1.4) ** 2) / 9.0)
    light += np.random.default_rng(1).normal(120.0, 12.0, (rows, columns))
    light[3, 4], light[-5, 10] = np.nan, 3e37
    return light.astype(np.float32)


def stamp(image: NDArray[Any], **header: Any) -> bytes:
    unit = fits.PrimaryHDU(image)
    unit.header.update(header)
    buffer = io.BytesIO()
    unit.writeto(buffer)
    return gzip.compress(buffer.getvalue())


def reference(image: NDArray[np.float32], style: Style) -> NDArray[np.float64]:
    """The picture that Matplotlib draws of an oriented image, (168, 168, 3)."""
    data = image.astype(float)
    data[~(np.abs(data) <= 1e20)] = np.nan
    data[np.isnan(data)] = np.nanmean(data)
    stretched = visualization.ImageNormalize(data, stretch=CURVES[style.stretch])(data)
    low, high = INTERVALS[style.interval].get_limits(stretched)
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(stretched, cmap=style.cmap, origin="lower", vmin=low, vmax=high)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=42, format="png")
    return colours(buffer.getvalue())


def colours(png: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


def similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13, 600) of each colour, in windows of 7 x 7 pixels."""
    windows = [sliding_window_view(image, (7, 7), axis=(0, 1)) for image in (one, other)]
    mean_a, mean_b = (window.mean((-1, -2)) for window in windows)
    var_a, var_b = (window.var((-1, -2), ddof=1) for window in windows)
    covariance = ((windows[0] * windows[1]).mean((-1, -2)) - mean_a * mean_b) * 49.0 / 48.0
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(structure / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


@pytest.mark.parametrize("interval", get_args(Interval))
@pytest.mark.parametrize("curve", get_args(Curve))
def test_intervals_and_curves_are_those_of_astropy(interval: Interval, curve: Curve) -> None:
    style = Style(interval, curve)
    png = cutouts.picture(stamp(star()), (), style)
    assert Image.open(io.BytesIO(png)).size == (168, 168)
    assert similarity(colours(png), reference(star(), style)) >= 0.98


@pytest.mark.parametrize("cmap", get_args(Colours))
@pytest.mark.parametrize("shape", [(63, 63), (61, 48)])
def test_colours_and_margins_are_those_of_matplotlib(cmap: Colours, shape: tuple[int, int]) -> None:
    style = Style(cmap=cmap)
    assert similarity(colours(cutouts.picture(stamp(star(*shape)), (), style)), reference(star(*shape), style)) >= 0.98


def test_similarity_notices_another_style_and_a_turn() -> None:
    drawn = colours(cutouts.picture(stamp(star()), (), Style()))
    for style in (Style("zscale"), Style(stretch="linear"), Style(cmap="magma")):
        assert similarity(drawn, reference(star(), style)) < 0.9
    assert similarity(drawn, reference(np.flipud(star()), Style())) < 0.9


def test_a_stamp_is_turned_as_its_survey_says() -> None:
    turned = np.rot90(np.fliplr(star()), 3)
    turns = ("fliplr", "rot90", "rot90", "rot90")
    assert cutouts.picture(stamp(star()), turns, Style()) == cutouts.picture(stamp(turned), (), Style())  # type: ignore[arg-type]


def test_a_fits_file_keeps_its_header_and_turns_its_images() -> None:
    image, small = star(20, 30), np.arange(12, dtype=np.int16).reshape(3, 4)
    units = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name="IMAGE"), fits.ImageHDU(small, name="PSF")])
    units[1].header["BUNIT"] = ("nJy", "unit")
    buffer = io.BytesIO()
    units.writeto(buffer)
    packed = gzip.compress(buffer.getvalue())
    assert cutouts.fits_file(packed, ()) == buffer.getvalue()
    assert cutouts.fits_file(buffer.getvalue(), ()) == buffer.getvalue()
    with fits.open(io.BytesIO(cutouts.fits_file(packed, ("flipud", "rot90")))) as found:
        for unit, expected in zip(found[1:], (image, small), strict=True):
            assert np.array_equal(unit.data, np.rot90(np.flipud(expected)), equal_nan=True)
            assert unit.data.dtype.kind == expected.dtype.kind
        assert (found["IMAGE"].header["BUNIT"], found["IMAGE"].header.comments["BUNIT"]) == ("nJy", "unit")


@pytest.mark.parametrize("data", [b"", b"nonsense", gzip.compress(bytes(8 << 20)), stamp(star())[:500]])
def test_a_stamp_that_can_not_be_read(data: bytes) -> None:
    with pytest.raises(StampError):
        cutouts.picture(data, (), Style())
    with pytest.raises(StampError):
        cutouts.fits_file(data, ("flipud",))
