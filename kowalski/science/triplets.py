"""Triplets: an alert's three stamps as the array that image classifiers take.

Each stamp is cleaned of non-finite pixels, divided by its own L2 norm and, where it is smaller than 63 x 63, filled up
at the high end of each axis: the preparation with which braai (Duev et al. 2019, MNRAS 489, 3582) and the classifiers
that follow it were trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kowalski.science import stamps
from kowalski.science.stamps import Image, StampError
from kowalski.surveys.base import Stamps

__all__ = ["CHANNELS", "SIDE", "Mask", "Triplets", "explain", "make"]

Triplets = NDArray[np.float32]
"""(n, 63, 63, 3); the last axis is science, template, difference."""
Mask = NDArray[np.bool_]
"""(n,)"""

SIDE = 63
CHANNELS = ("science", "template", "difference")
FILL = 1e-9
"""What stands where a stamp has no pixels."""


class _NoTriplet(Exception):
    """An alert has no usable triplet; the text says why."""


def make(alerts: Sequence[Stamps], out: Triplets | None = None) -> tuple[Triplets, Mask]:
    """Build the triplets of a batch of alerts.

    Parameters
    ----------
    alerts
        The stamps of each alert.
    out
        An array (at least n, 63, 63, 3) of float32 to write into, which saves allocating one per batch.

    Returns
    -------
    triplets : ndarray
        (n, 63, 63, 3) float32, a view on ``out`` if that is given. All pixels are finite; rows without a triplet are 0.
    valid : ndarray
        (n,) bool; False where a stamp is missing, unreadable, empty of signal or larger than 63 x 63
        (`explain` says which).

    Raises
    ------
    ValueError
        If ``out`` is too small, or not of that shape and type.
    """
    count = len(alerts)
    if out is None:
        out = np.empty((count, SIDE, SIDE, len(CHANNELS)), np.float32)
    elif out.dtype != np.float32 or out.ndim != 4 or out.shape[1:] != (SIDE, SIDE, 3) or len(out) < count:
        raise ValueError(f"out must be a float32 array of at least {(count, SIDE, SIDE, 3)}, not {out.shape}")
    valid = np.ones(count, np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):  # once per batch: it costs as much as a norm; see `_clean`
        for index, alert in enumerate(alerts):
            try:
                _fill(alert, out[index])
            except _NoTriplet:
                valid[index] = False
                out[index] = 0.0
    return out[:count], valid


def explain(alert: Stamps) -> str | None:
    """Say in one sentence why an alert has no valid triplet; None if it has one."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            _fill(alert, np.empty((SIDE, SIDE, len(CHANNELS)), np.float32))
    except _NoTriplet as reason:
        return str(reason)
    return None


def _fill(alert: Stamps, triplet: Image) -> None:
    """Write one alert's stamps into ``triplet`` (63, 63, 3)."""
    for channel, name in enumerate(CHANNELS):
        data = getattr(alert, name)
        if data is None:
            raise _NoTriplet(f"the {name} stamp is missing")
        try:
            image = stamps.read(data)
        except StampError as error:
            raise _NoTriplet(f"the {name} stamp can't be read: {error}") from error
        rows, columns = image.shape
        if rows > SIDE or columns > SIDE:
            raise _NoTriplet(f"the {name} stamp has {rows} x {columns} pixels, more than {SIDE} x {SIDE}")
        norm = _clean(image)
        if norm == 0.0:
            raise _NoTriplet(f"the {name} stamp is zero everywhere")
        plane = triplet[:, :, channel]
        if rows < SIDE or columns < SIDE:
            plane[:] = FILL
        np.divide(image, norm, out=plane[:rows, :columns])


def _clean(image: Image) -> np.float32:
    """Replace NaN by 0 and infinities by the largest numbers, in place, and give the L2 norm.

    The norm is taken in single precision and is infinite for pixels beyond 1e19, which turns the stamp into zeros; so
    the reference implementations do, and models' scores were published for.
    """
    pixels = image.ravel()
    square = pixels.dot(pixels)
    if not math.isfinite(square):  # any NaN or infinity shows in the sum, so finite stamps need no second look
        np.nan_to_num(image, copy=False)
        square = pixels.dot(pixels)
    return np.float32(math.sqrt(square))
