"""Thumbnails: stamps as small PNG pictures, drawn as astronomers know them from SkyPortal.

What Matplotlib does with ``imshow`` (colour map "bone", origin at the lower left, its own choice of interpolation) on a
canvas of 168 x 168 pixels, computed directly: resampling along each axis, a table of 256 colours, a palette PNG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kowalski.science.colours import Colours, palette

Pixels = NDArray[np.floating[Any]]
Orientation = Iterable[Literal["flipud", "fliplr", "rot90"]]
Stretch = Literal["percentile", "sigma"]
Curve = Literal["linear", "log", "asinh", "sqrt"]
AnyNumber = TypeVar("AnyNumber", bound=np.generic)

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
"""Constant ``a`` of the curve log(a x + 1) / log(a + 1)."""
ASINH_SCALE = 0.1
"""Constant ``a`` of the curve asinh(x / a) / asinh(1 / a)."""

WHITE = 255
NEARLY_LINEAR = ("bone", "gray")
"""Colour maps of which a level may be resampled in place of its colour; the last one is white, like the margin."""


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
    image = oriented(np.asarray(stamp, dtype=np.float64), orientation)
    if stretch == "sigma":
        values = filled(image, np.max)
        black, white = _around_the_sky(values)
    else:
        values = stretched(filled(image, np.mean), "log" if log else "linear")
        black, white = np.percentile(values, (LOWER, UPPER))
    return paint(values, black, white)


def paint(values: NDArray[np.float64], black: float, white: float, colours: Colours = "bone") -> bytes:
    """Draw an image whose rows begin at the bottom as a PNG file.

    Parameters
    ----------
    values
        (rows, columns), finite; an image that is not square is centred on white.
    black, white
        Values that take the first and the last colour.
    """
    span = white - black
    # Colours, not values, are resampled: what is saturated must not shine into its surroundings.
    level = np.clip((values - black) * (256.0 / span), 0.0, 255.0) if span > 0.0 else np.zeros_like(values)
    table = palette(colours)
    if colours in NEARLY_LINEAR:
        picture = Image.fromarray(_enlarged(level))
        picture.putpalette(table)
    else:
        layers = np.frombuffer(table, np.uint8).reshape(-1, 3)[level.astype(np.uint8)].astype(np.float64)
        picture = Image.fromarray(np.stack([_enlarged(layers[..., channel]) for channel in range(3)], axis=-1))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _enlarged(layer: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Resample values from 0 to 255 onto the canvas, row 0 at the bottom."""
    rows, columns = layer.shape
    vertical, horizontal = _resampling(rows, max(rows, columns)), _resampling(columns, max(rows, columns))
    drawn = horizontal.apply(vertical.apply(layer).T).T[::-1]
    canvas = np.full((SIZE, SIZE), WHITE, dtype=np.uint8)
    top, left = vertical.begin, horizontal.begin
    canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return canvas


def oriented(image: NDArray[AnyNumber], orientation: Orientation) -> NDArray[AnyNumber]:
    """Turn an image, (rows, columns), in order."""
    turns: dict[str, Callable[[NDArray[AnyNumber]], NDArray[AnyNumber]]]
    turns = {"flipud": np.flipud, "fliplr": np.fliplr, "rot90": np.rot90}
    for name in orientation:
        image = turns[name](image)
    return image


def filled(image: NDArray[np.float64], of: Callable[[NDArray[np.float64]], Any]) -> NDArray[np.float64]:
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


def stretched(image: NDArray[np.float64], curve: Curve) -> NDArray[np.float64]:
    """Bring an image to 0 … 1 and bend that by a curve; one without structure becomes 0."""
    low, high = image.min(), image.max()
    if low == high:
        return np.zeros_like(image)
    scaled: NDArray[np.float64] = (image - low) / (high - low)
    match curve:
        case "linear":
            return scaled
        case "log":
            return np.log1p(LOG_SCALE * scaled) / math.log1p(LOG_SCALE)
        case "asinh":
            return np.arcsinh(scaled / ASINH_SCALE) / math.asinh(1.0 / ASINH_SCALE)
        case "sqrt":
            return np.sqrt(scaled)


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
