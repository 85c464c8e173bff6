"""Thumbnails against Matplotlib, which SkyPortal's users know them from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import fastavro
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from kowalski import surveys
from kowalski.science import stamps, thumbnails
from kowalski.science.colours import Colours, palette


def star(rows: int = 63, columns: int = 63, seed: int = 1) -> NDArray[np.float64]:
    """A star with noise and a fainter neighbour, so that no symmetry hides a flip."""
    y, x = np.mgrid[:rows, :columns]
    light = 900.0 * np.exp(-((y - rows / 2) ** 2 + (x - columns / 2) ** 2) / 6.0)
    light += 300.0 * np.exp(-((y - rows / 5) ** 2 + (x - columns / 1.4) ** 2) / 9.0)
    return light + np.random.default_rng(seed).normal(120.0, 12.0, (rows, columns))


def reference(image: NDArray[np.float64], *, log: bool) -> NDArray[np.float64]:
    """The picture that Matplotlib and astropy draw of an oriented image, as luminance."""
    from astropy.visualization import AsymmetricPercentileInterval, ImageNormalize, LinearStretch, LogStretch
    from matplotlib.figure import Figure

    data = np.where(np.abs(image) > 1e20, np.nan, image)
    data = np.where(np.isnan(data), np.nanmean(data), data)
    stretched = ImageNormalize(data, stretch=LogStretch() if log else LinearStretch())(data)
    low, high = AsymmetricPercentileInterval(1, 100).get_limits(stretched)
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(stretched, cmap="bone", origin="lower", vmin=low, vmax=high)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=42, format="png")
    return luminance(buffer.getvalue())


def sky_reference(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The picture that Matplotlib and astropy draw between limits around the clipped sky, as luminance."""
    from astropy.stats import sigma_clipped_stats
    from matplotlib.figure import Figure

    data = np.where(np.isnan(image), np.nanmax(image), image)
    _, median, deviation = sigma_clipped_stats(data)
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(data, cmap="bone", origin="lower", vmin=median - 4 * deviation, vmax=median + 5 * deviation)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=42, format="png")
    return luminance(buffer.getvalue())


def luminance(png: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB").convert("L"), dtype=np.float64)


def similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13, 600) in windows of 7 x 7 pixels."""
    windows = [sliding_window_view(image, (7, 7)) for image in (one, other)]
    mean_a, mean_b = (window.mean((-1, -2)) for window in windows)
    var_a, var_b = (window.var((-1, -2), ddof=1) for window in windows)
    covariance = ((windows[0] * windows[1]).mean((-1, -2)) - mean_a * mean_b) * 49.0 / 48.0
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(structure / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("shape", [(63, 63), (61, 61), (81, 81), (30, 30), (84, 84), (53, 63), (63, 48), (200, 200)])
def test_looks_like_matplotlib(shape: tuple[int, int], log: bool) -> None:
    image = star(*shape)
    assert similarity(luminance(thumbnails.render(image, log=log)), reference(image, log=log)) >= 0.98


@pytest.mark.parametrize("missing", [0, 300])
def test_the_sky_sets_the_limits_where_a_survey_wants_it(missing: int) -> None:
    image = star()
    image.ravel()[1000 : 1000 + missing] = np.nan
    png = thumbnails.render(image, stretch="sigma")
    assert similarity(luminance(png), sky_reference(image)) >= 0.98
    assert similarity(luminance(thumbnails.render(image)), sky_reference(image)) < 0.98


def test_similarity_notices_a_flip_and_a_wrong_stretch() -> None:
    expected = reference(star(), log=True)
    assert similarity(luminance(thumbnails.render(star(), orientation=("flipud",))), expected) < 0.9
    assert similarity(luminance(thumbnails.render(star(), log=False)), expected) < 0.9


def test_orientation_is_applied_in_order() -> None:
    turned = np.rot90(np.fliplr(star()))
    assert thumbnails.render(star(), orientation=("fliplr", "rot90")) == thumbnails.render(turned)


def test_missing_pixels_and_fill_values_take_the_mean() -> None:
    image = star()
    image[3, 4], image[10:20, 50:] = 3e37, np.nan
    assert similarity(luminance(thumbnails.render(image)), reference(image, log=True)) >= 0.98


@pytest.mark.parametrize("stretch", ["percentile", "sigma"])
@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_an_image_without_structure_is_drawn(value: float, stretch: thumbnails.Stretch) -> None:
    png = thumbnails.render(np.full((63, 63), value), stretch=stretch)
    assert Image.open(io.BytesIO(png)).size == (168, 168)
    assert np.unique(luminance(png)).tolist() == [0.0]


@pytest.mark.parametrize("name", get_args(Colours))
def test_colours_are_those_of_matplotlib(name: Colours) -> None:
    from matplotlib import colormaps

    found = np.frombuffer(palette(name), dtype=np.uint8).reshape(256, 3)
    expected = colormaps[name](np.arange(256), bytes=True)[:, :3]
    # Matplotlib's own rounding makes some greys a level too dark.
    assert np.abs(found.astype(int) - expected).max() <= (1 if name == "gray" else 0)


@pytest.mark.sample_data
def test_real_stamps(sample_data: Path) -> None:
    survey = surveys.get("ZTF")
    for path in sorted((sample_data / "ztf_alerts" / "20200202").glob("*.avro"))[:6]:
        with path.open("rb") as file:
            found = survey.stamps_of(next(fastavro.reader(file)))
        for data, log in ((found.science, True), (found.template, True), (found.difference, False)):
            image = stamps.read(data or b"")
            png = thumbnails.render(image, orientation=survey.stamp_orientation, log=log)
            assert similarity(luminance(png), reference(np.flipud(image.astype(float)), log=log)) >= 0.98
