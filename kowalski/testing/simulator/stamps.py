"""Simulated images around an alert: gzip-compressed FITS of 63 x 63 pixels of 1.01 arcsec, north up."""

from __future__ import annotations

import math

import numpy as np
from isal import igzip
from numpy.random import Generator
from numpy.typing import NDArray

from kowalski.testing.simulator.observations import Measurements
from kowalski.testing.simulator.sources import ZERO, Bogus, Counterpart, Source, flux_of

SIZE = 63
CENTRE = SIZE // 2
PIXEL = 1.01
"""Size of a pixel, arcsec."""
BLOCK = 2880
"""FITS files consist of blocks of this size (FITS standard 4.0, section 3.1)."""
REFERENCE_SEEING = 2.0
STARS = 3
"""Other stars in the images."""
RESIDUAL = 0.01
"""Part of a star's flux that subtraction leaves."""
RARE = 0.01
"""How often an image is cut by the edge of the detector, and how often it has pixels without a value."""
COMPRESSION = 1

Image = NDArray[np.float32]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


class Scene:
    """The surroundings of one object: the same stars in each of its alerts."""

    def __init__(self, source: Source, random: Generator) -> None:
        self._source = source
        positions = random.uniform(4.0, SIZE - 5.0, (STARS, 2))
        magnitudes = random.uniform(16.0, 21.0, STARS)
        self._stars = [(float(x), float(y), float(flux_of(m))) for (x, y), m in zip(positions, magnitudes, strict=True)]
        self._template = self._render(REFERENCE_SEEING, 1.0) + random.normal(100.0, 4.0, (SIZE, SIZE))

    def stamps(self, measured: Measurements, index: int, random: Generator) -> tuple[bytes, bytes, bytes]:
        """Make science, template and difference stamp of measurement ``index``."""
        science, template, difference = self.images(measured, index, random)
        return fits(science), fits(template), fits(difference)

    def images(self, measured: Measurements, index: int, random: Generator) -> tuple[Image, Image, Image]:
        """Make science, template and difference image of measurement ``index``."""
        seeing = float(measured.visits.seeing[index])
        scale = 10.0 ** (0.4 * (float(measured.visits.zero[index]) - ZERO))
        change = self._change(float(measured.flux[index]) * scale, seeing, random)
        noise = random.normal(0.0, _pixel_noise(measured, index, seeing) * scale, (SIZE, SIZE))
        science = 150.0 + self._render(seeing, scale) + change + noise
        difference = self._residuals(seeing, scale, random) + change + noise
        images = [image.astype(np.float32) for image in (science, self._template, difference)]
        fate = random.random()
        if fate < RARE:
            images = [image[:, : SIZE - 10] for image in images]
        elif fate < 2 * RARE:
            images[0][:, :3] = np.nan
        return images[0], images[1], images[2]

    def _render(self, seeing: float, scale: float) -> NDArray[np.float32]:
        image = _counterpart(self._source.counterpart, seeing, scale)
        for x, y, flux in self._stars:
            image += flux * scale * point(x, y, seeing)
        return image

    def _residuals(self, seeing: float, scale: float, random: Generator) -> NDArray[np.float32]:
        image = np.zeros((SIZE, SIZE), np.float32)
        for x, y, flux in self._stars:
            left = flux * scale * RESIDUAL
            image += left * float(random.normal()) * (point(x, y, seeing) - point(x + 0.5, y, seeing))
        return image

    def _change(self, flux: float, seeing: float, random: Generator) -> NDArray[np.float32]:
        if not isinstance(self._source, Bogus):
            x, y = CENTRE + random.uniform(-0.3, 0.3, 2)
            return flux * point(float(x), float(y), seeing)
        return flux * _ARTEFACTS[self._source.artefact](random)


def _pixel_noise(measured: Measurements, index: int, seeing: float) -> float:
    """Noise of a pixel that gives a point source the noise it was measured with (King 1983, PASP 95, 163)."""
    limit = float(flux_of(measured.visits.limit[index])) / 5.0
    return limit / math.sqrt(math.pi * (seeing / 2.3548) ** 2 * 4.0)


def point(x: float, y: float, seeing: float) -> NDArray[np.float32]:
    """Image of a point source of flux 1: a Moffat profile with the wings of beta = 3 (Moffat 1969, A&A 3, 455)."""
    width = (seeing / (2.0 * math.sqrt(2.0 ** (1.0 / 3.0) - 1.0))) ** 2
    core = 1.0 + ((_X - np.float32(x)) ** 2 + (_Y - np.float32(y)) ** 2) * np.float32(1.0 / width)
    return np.asarray(np.float32(2.0 / (math.pi * width)) / (core * core * core), np.float32)


def _counterpart(what: Counterpart, seeing: float, scale: float) -> NDArray[np.float32]:
    x = CENTRE - what.separation / PIXEL * math.sin(what.angle)
    y = CENTRE + what.separation / PIXEL * math.cos(what.angle)
    flux = float(flux_of(what.magnitude)) * scale
    if what.star > 0.5 or what.radius == 0.0:
        return np.float32(flux) * point(x, y, seeing)
    length = math.hypot(what.radius / PIXEL, seeing / 2.0) / 1.678  # of an exponential disc with that half-light radius
    turn, flat = what.angle, 0.6
    along = (_X - x) * math.cos(turn) + (_Y - y) * math.sin(turn)
    across = ((_Y - y) * math.cos(turn) - (_X - x) * math.sin(turn)) / flat
    disc = np.exp(-np.hypot(along, across) / length) / (math.tau * length**2 * flat)
    return np.asarray(flux * disc, np.float32)


def _cosmic_ray(random: Generator) -> NDArray[np.float32]:
    image = np.zeros((SIZE, SIZE), np.float32)
    length, angle = int(random.integers(2, 9)), random.uniform(0.0, math.tau)
    steps = np.arange(length)
    rows = (CENTRE + steps * math.sin(angle)).astype(int)
    columns = (CENTRE + steps * math.cos(angle)).astype(int)
    image[rows, columns] = 1.0 / length
    return image


def _dipole(random: Generator) -> NDArray[np.float32]:
    shift = float(random.uniform(1.0, 2.0))
    return 2.0 * point(CENTRE, CENTRE, 1.6) - 1.5 * point(CENTRE + shift, CENTRE, 1.6)


def _column(random: Generator) -> NDArray[np.float32]:
    image = np.zeros((SIZE, SIZE), np.float32)
    image[:, CENTRE] = 0.2 * random.uniform(0.7, 1.3, SIZE)
    return image


_ARTEFACTS = {"cosmic ray": _cosmic_ray, "dipole": _dipole, "column": _column}


def fits(image: Image, bits: int = -32) -> bytes:
    """Write ``image`` as a gzip-compressed FITS file of floats, with 32 bits (``BITPIX`` -32) or 64 each."""
    return bytes(igzip.compress(_unit({"SIMPLE": "T"}, image, bits), COMPRESSION, mtime=0))


def plain_fits(image: Image, **extensions: Image) -> bytes:
    """Write ``image`` as a FITS file of 32-bit floats, with further images in extensions of the given names."""
    units = [_unit({"SIMPLE": "T"}, image)]
    for name, extension in extensions.items():
        units.append(_unit({"XTENSION": "'IMAGE   '"}, extension, PCOUNT=0, GCOUNT=1, EXTNAME=f"'{name:8}'"))
    return b"".join(units)


def _unit(first: dict[str, str], image: Image, bits: int = -32, **last: int | str) -> bytes:
    """Write one header and data unit."""
    rows, columns = image.shape
    cards = {**first, "BITPIX": bits, "NAXIS": 2, "NAXIS1": columns, "NAXIS2": rows, **last}
    header = "".join(
        (f"{name:8}= {value}" if str(value).startswith("'") else f"{name:8}= {value:>20}").ljust(80)
        for name, value in cards.items()
    )
    header += "BUNIT   = 'DN      '".ljust(80) + "END".ljust(80)
    data = image.astype(f">f{-bits // 8}").tobytes()
    return header.ljust(BLOCK).encode() + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")
