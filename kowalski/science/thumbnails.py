"""Thumbnails: stamps as small PNG pictures, drawn as astronomers know them from SkyPortal.

What Matplotlib does with ``imshow`` (colour map "bone", origin at the lower left, its own choice of interpolation) on a
canvas of 168 x 168 pixels, computed directly: resampling along each axis, a table of 256 colours, a palette PNG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.floating[Any]]
Orientation = Iterable[Literal["flipud", "fliplr", "rot90"]]
Stretch = Literal["percentile", "sigma"]

SIZE = 168
"""Pixels on a side: 4 inches at 42 dots per inch."""
ABSURD = 1e20
"""Pixels of larger absolute value are fill values."""
LOWER, UPPER = 1.0, 100.0
"""Percentiles of the stretched pixels that become black and white."""
CLIP_SIGMA, CLIPS = 3.0, 5
"""The sky: pixels within so many standard deviations of the median, clipped so many times at most."""
SKY_SIGMA = (4.0, 5.0)
"""Standard deviations of the sky below and above its median that become black and white."""
LOG_SCALE = 1000.0
"""Constant ``a`` of the stretch log(a x + 1) / log(a + 1)."""

BONE_NODES = {
    "red": ((0.0, 0.746032, 1.0), (0.0, 0.652778, 1.0)),
    "green": ((0.0, 0.365079, 0.746032, 1.0), (0.0, 0.319444, 0.777778, 1.0)),
    "blue": ((0.0, 0.365079, 1.0), (0.0, 0.444444, 1.0)),
}
"""The colour map "bone": where each channel bends, and its values there."""
WHITE = 255


def render(stamp: Pixels, *, orientation: Orientation = (), log: bool = True, stretch: Stretch = "percentile") -> bytes:
    """Draw a stamp.

    Parameters
    ----------
    stamp
        (rows, columns), as stored.
    orientation
        What turns the stamp into the picture to show, in order (``Survey.stamp_orientation``).
    log
        Logarithmic stretch, as for science and template stamps; difference stamps are drawn linearly.
    stretch
        Which pixels become black and white (``Survey.stamp_stretch``): those at percentiles of the stretched pixels, or
        those four and five standard deviations around the median of the sky, which are drawn linearly.

    Returns
    -------
    bytes
        A PNG file, 168 x 168 pixels; a stamp that is not square is centred on white.
    """
    image = _oriented(np.asarray(stamp, dtype=np.float64), orientation)
    if stretch == "sigma":
        values = _filled(image, np.max)
        black, white = _around_the_sky(values)
    else:
        values = _stretched(_filled(image, np.mean), log=log)
        black, white = np.percentile(values, (LOWER, UPPER))
    rows, columns = values.shape
    vertical, horizontal = _resampling(rows, max(rows, columns)), _resampling(columns, max(rows, columns))
    span = white - black
    # Colours, not values, are resampled: what is saturated must not shine into its surroundings.
    grey = np.clip((values - black) * (256.0 / span), 0.0, 255.0) if span > 0.0 else np.zeros_like(values)
    level = horizontal.apply(vertical.apply(grey).T).T[::-1]  # row 0 is at the bottom
    canvas = np.full((SIZE, SIZE), WHITE, dtype=np.uint8)
    top, left = vertical.begin, horizontal.begin
    canvas[top : top + level.shape[0], left : left + level.shape[1]] = level
    return _png(canvas)


def _oriented(image: NDArray[np.float64], orientation: Orientation) -> NDArray[np.float64]:
    turns: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]
    turns = {"flipud": np.flipud, "fliplr": np.fliplr, "rot90": np.rot90}
    for name in orientation:
        image = turns[name](image)
    return image


def _filled(image: NDArray[np.float64], of: Callable[[NDArray[np.float64]], Any]) -> NDArray[np.float64]:
    """Put a value of the good pixels, their mean say, in place of missing ones and of fill values."""
    bad = ~(np.abs(image) <= ABSURD)
    if not bad.any():
        return image
    good = image[~bad]
    return np.where(bad, of(good) if good.size else 0.0, image)


def _around_the_sky(image: NDArray[np.float64]) -> tuple[float, float]:
    """Find black and white by the pixels that are left when those far from the median are clipped again and again."""
    kept = image.ravel()
    for _ in range(CLIPS):
        near = np.abs(kept - np.median(kept)) <= CLIP_SIGMA * kept.std()
        if near.all():
            break
        kept = kept[near]
    median, sigma = float(np.median(kept)), float(kept.std())
    return median - SKY_SIGMA[0] * sigma, median + SKY_SIGMA[1] * sigma


def _stretched(image: NDArray[np.float64], *, log: bool) -> NDArray[np.float64]:
    low, high = image.min(), image.max()
    if low == high:
        return np.zeros_like(image)
    scaled: NDArray[np.float64] = (image - low) / (high - low)
    return np.log1p(LOG_SCALE * scaled) / math.log1p(LOG_SCALE) if log else scaled


class _Resampling(NamedTuple):
    """How one axis of a stamp is stretched over the canvas.

    Attributes
    ----------
    begin
        Where the drawn pixels begin on the canvas.
    taps, weights
        (taps, drawn): the pixels of the stamp that make up each drawn pixel, and their shares, which add up to 1.
    """

    begin: int
    taps: NDArray[np.intp]
    weights: NDArray[np.float64]

    def apply(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stretch the first axis of an image."""
        # Two taps as a rule: cheaper than a matrix product, which would also wake threads of a linear-algebra library.
        total: NDArray[np.float64] = self.weights[0][:, None] * image[self.taps[0]]
        for taps, weights in zip(self.taps[1:], self.weights[1:], strict=True):
            total += weights[:, None] * image[taps]
        return total


@cache
def _resampling(pixels: int, longest: int) -> _Resampling:
    """Work out how an axis of ``pixels`` is drawn if the stamp's longer axis, ``longest``, fills the canvas.

    Enlarging more than threefold, or by 1 or 2, repeats pixels; everything else goes through a Hann window, as
    Matplotlib's "auto" interpolation does.
    """
    scale = SIZE / longest
    margin = (SIZE - pixels * scale) / 2.0
    begin, end = math.floor(margin + 0.5), math.ceil(SIZE - margin - 0.5)
    at = (np.arange(begin, end) + 0.5 - margin) / scale - 0.5
    if scale > 3.0 or scale in (1.0, 2.0):
        taps = np.rint(at).astype(np.intp)[None, :]
        weights = np.ones(taps.shape)
    else:
        reach = max(1.0, 1.0 / scale)
        taps = np.floor(at).astype(np.intp) + np.arange(1 - math.ceil(reach), math.ceil(reach) + 1)[:, None]
        weights = 0.5 + 0.5 * np.cos(np.pi * np.minimum(np.abs(taps - at) / reach, 1.0))
    return _Resampling(begin, np.clip(taps, 0, pixels - 1), weights / weights.sum(axis=0))


@cache
def _palette() -> bytes:
    """Give the 256 colours of "bone", three bytes each."""
    steps = np.linspace(0.0, 1.0, 256)
    channels = [np.interp(steps, *nodes) for nodes in BONE_NODES.values()]
    # the nodes are rounded decimals: without the small addition, whole levels would fall to the one below
    return (np.stack(channels, axis=1) * 255.0 + 1e-9).astype(np.uint8).tobytes()


def _png(levels: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(levels)
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
