"""Stamps for people: as FITS files, and as pictures in the ways that astronomers choose."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kowalski.science import stamps
from kowalski.science.colours import Colours
from kowalski.science.stamps import StampError
from kowalski.science.thumbnails import LOWER, UPPER, Curve, Orientation, filled, oriented, paint, stretched

Interval = Literal["asymmetric_percentile", "min_max", "zscale"]

ZSCALE = {"n_samples": 600, "contrast": 0.045, "krej": 2.5}


@dataclass(frozen=True, slots=True)
class Style:
    """How a stamp is drawn.

    Attributes
    ----------
    interval
        Which stretched pixels become the first and the last colour: those at 1 and 100 per cent, the least and the
        greatest, or those that IRAF's zscale chooses.
    stretch
        What is done to the pixels, brought to 0 … 1, before.
    cmap
        Colours.
    """

    interval: Interval = "asymmetric_percentile"
    stretch: Curve = "log"
    cmap: Colours = "bone"


def picture(data: bytes, orientation: Orientation, style: Style) -> bytes:
    """Draw a stamp as it came in an alert: a PNG file of 168 x 168 pixels.

    Raises
    ------
    StampError
        If the stamp can't be read.
    """
    image = oriented(stamps.read(data).astype(np.float64), orientation)
    values = stretched(filled(image, np.mean), style.stretch)
    return paint(values, *_limits(values, style.interval), style.cmap)


def fits_file(data: bytes, orientation: Orientation) -> bytes:
    """Give a stamp as a FITS file: headers as they came, images turned as the survey shows them.

    Raises
    ------
    StampError
        If the stamp can't be read.
    """
    content = stamps.unpacked(data)
    if not content.startswith(b"SIMPLE"):  # astropy would look for an archive, and unpack one of any size
        raise StampError("its bytes are no FITS file")
    turns = tuple(orientation)
    if not turns:
        return content
    # Imported here: it costs each process 30 MB.
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyError

    buffer = io.BytesIO()
    try:
        with fits.open(
            io.BytesIO(content), memmap=False, ignore_missing_simple=True, disable_image_compression=True
        ) as units:
            for unit in units:
                if isinstance(unit, fits.PrimaryHDU | fits.ImageHDU) and unit.data is not None and unit.data.ndim == 2:
                    unit.data = np.ascontiguousarray(oriented(unit.data, turns))
            units.writeto(buffer, output_verify="silentfix+ignore")
    except (OSError, VerifyError, ValueError, TypeError, KeyError) as error:
        raise StampError(f"it is no readable FITS file: {' '.join(str(error).split())}") from error
    return buffer.getvalue()


def _limits(values: NDArray[np.float64], interval: Interval) -> tuple[float, float]:
    match interval:
        case "asymmetric_percentile":
            low, high = np.percentile(values, (LOWER, UPPER))
        case "min_max":
            low, high = values.min(), values.max()
        case "zscale":
            from astropy.visualization import ZScaleInterval

            settings: dict[str, Any] = ZSCALE
            low, high = ZScaleInterval(**settings).get_limits(values)
    return float(low), float(high)
