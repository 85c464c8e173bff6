"""Thumbnails: stamps as small PNG pictures, drawn as astronomers know them from SkyPortal.

What Matplotlib does with ``imshow`` (colour map "bone", origin at the lower left, its own choice of interpolation) on a
canvas of 168 x 168 pixels, computed directly: a resampling matrix per axis, a table of 256 colours, a palette PNG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.floating[Any]]
Orientation = Iterable[Literal["flipud", "fliplr", "rot90"]]

SIZE = 168
"""Pixels on a side: 4 inches at 42 dots per inch."""
ABSURD = 1e20
"""Pixels of larger absolute value are fill values."""
LOWER, UPPER = 1.0, 100.0
"""Percentiles of the stretched pixels that become black and white."""
LOG_SCALE = 1000.0
"""Constant ``a`` of the stretch log(a x + 1) / log(a + 1)."""

BONE_NODES = {
    "red": ((0.0, 0.746032, 1.0), (0.0, 0.652778, 1.0)),
    "green": ((0.0, 0.365079, 0.746032, 1.0), (0.0, 0.319444, 0.777778, 1.0)),
    "blue": ((0.0, 0.365079, 1.0), (0.0, 0.444444, 1.0)),
}
"""The colour map "bone": where each channel bends, and its values there."""
WHITE = 255


def render(stamp: Pixels, *, orientation: Orientation = (), log: bool = True) -> bytes:
    """Draw a stamp.

    Parameters
    ----------
    stamp
        (rows, columns), as stored.
    orientation
        What turns the stamp into the picture to show, in order (``Survey.stamp_orientation``).
    log
        Logarithmic stretch, as for science and template stamps; difference stamps are drawn linearly.

    Returns
    -------
    bytes
        A PNG file, 168 x 168 pixels; a stamp that is not square is centred on white.
    """
    image = _oriented(np.asarray(stamp, dtype=np.float64), orientation)
    values = _stretched(_filled(image), log=log)
    black, white = np.percentile(values, (LOWER, UPPER))
    rows, columns = values.shape
    top, down = _resampling(rows, max(rows, columns))
    left, across = _resampling(columns, max(rows, columns))
    shown = (down @ values @ across.T)[::-1]  # row 0 is at the bottom
    span = white - black
    level = np.clip((shown - black) * (256.0 / span), 0.0, 255.0) if span > 0.0 else np.zeros_like(shown)
    canvas = np.full((SIZE, SIZE), WHITE, dtype=np.uint8)
    canvas[top : top + shown.shape[0], left : left + shown.shape[1]] = level.astype(np.uint8)
    return _png(canvas)


def _oriented(image: NDArray[np.float64], orientation: Orientation) -> NDArray[np.float64]:
    turns: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]
    turns = {"flipud": np.flipud, "fliplr": np.fliplr, "rot90": np.rot90}
    for name in orientation:
        image = turns[name](image)
    return image


def _filled(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the mean of the good pixels in place of missing ones and of fill values."""
    bad = ~(np.abs(image) <= ABSURD)
    if not bad.any():
        return image
    good = image[~bad]
    return np.where(bad, good.mean() if good.size else 0.0, image)


def _stretched(image: NDArray[np.float64], *, log: bool) -> NDArray[np.float64]:
    low, high = image.min(), image.max()
    if low == high:
        return np.zeros_like(image)
    scaled: NDArray[np.float64] = (image - low) / (high - low)
    return np.log1p(LOG_SCALE * scaled) / math.log1p(LOG_SCALE) if log else scaled


@cache
def _resampling(pixels: int, longest: int) -> tuple[int, NDArray[np.float64]]:
    """Say how one axis of a stamp is stretched over the canvas.

    Enlarging more than threefold, or by 1 or 2, repeats pixels; everything else goes through a Hann window, as
    Matplotlib's "auto" interpolation does.

    Parameters
    ----------
    pixels
        Length of the axis.
    longest
        Length of the stamp's longer axis, which fills the canvas.

    Returns
    -------
    int, ndarray
        Where the drawn pixels begin on the canvas, and the matrix (drawn, pixels) that makes them; its rows sum to 1.
    """
    scale = SIZE / longest
    margin = (SIZE - pixels * scale) / 2.0
    begin, end = math.floor(margin + 0.5), math.ceil(SIZE - margin - 0.5)
    at = (np.arange(begin, end) + 0.5 - margin) / scale - 0.5
    if scale > 3.0 or scale in (1.0, 2.0):
        reach, taps = 1.0, np.rint(at).astype(int)[:, None]
        distance = np.zeros(taps.shape)
    else:
        reach = max(1.0, 1.0 / scale)
        taps = np.floor(at).astype(int)[:, None] + np.arange(-int(reach), int(reach) + 2)
        distance = np.minimum(np.abs(taps - at[:, None]) / reach, 1.0)
    weights = np.zeros((end - begin, pixels))
    lines = np.broadcast_to(np.arange(end - begin)[:, None], taps.shape)
    np.add.at(weights, (lines, np.clip(taps, 0, pixels - 1)), 0.5 + 0.5 * np.cos(np.pi * distance))
    return begin, weights / weights.sum(axis=1, keepdims=True)


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
