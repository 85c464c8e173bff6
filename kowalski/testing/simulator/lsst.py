"""Simulated alert packets of Rubin Observatory's LSST, schema 10.0.

Field names and types are those of ``lsst_schema.json``. What follows from the simulated source is filled in:
identifiers, times, places, fluxes, stamps, histories; all that packets may leave out, they leave out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from kowalski.science import stamps as images
from kowalski.science.photometry import NANOJANSKY
from kowalski.science.times import MJD_ZERO
from kowalski.testing.simulator.container import Record
from kowalski.testing.simulator.observations import Measurements
from kowalski.testing.simulator.places import Place
from kowalski.testing.simulator.sources import ZERO, Asteroid, G, Source
from kowalski.testing.simulator.stamps import CENTRE, Scene, plain_fits

__all__ = ["SCHEMA", "Object"]

SCHEMA = Path(__file__).with_name("lsst_schema.json")
HISTORY_DAYS = 365.0
TAI_AHEAD = 37.0 / 86400.0
"""Days by which TAI is ahead of UTC since 2017."""
NJY = 10.0 ** (0.4 * (NANOJANSKY - ZERO))
"""Nanojansky per unit of the simulator's flux."""
HALF_SIZE, PSF_HALF_SIZE = 15, 10
POSITION_ERROR = 0.05
"""Arcsec."""


class Object:
    """One object with all that was ever measured of it; see `kowalski.testing.simulator.ztf.Object`."""

    def __init__(
        self, index: int, seed: int, source: Source, measured: Measurements, random: Generator, taken: set[int]
    ) -> None:
        self._source, self._measured, self._random = source, measured, random
        self._place = Place.draw(random)
        self._scene = Scene(source, random)
        self.identifier = 2**58 + seed % 2**20 * 2**36 + index * 2**12
        self._moves = isinstance(source, Asteroid)
        self._sources = {
            number: self._dia_source(number, taken) for number in np.flatnonzero(measured.detected).tolist()
        }

    def alerts(self, night: float) -> Iterator[Record]:
        """Make a packet of each detection since ``night`` (JD), in order of time."""
        for number in self._sources:
            if self._measured.visits.jd[number] > night:
                yield self._packet(number)

    def _packet(self, number: int) -> Record:
        source = self._sources[number]
        earlier = [row for other, row in self._sources.items() if other < number]
        names = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
        cutouts = self._scene.stamps(self._measured, number, self._random)
        return {
            **_empty("alert"),
            "diaSourceId": source["diaSourceId"],
            "diaSource": source,
            "prvDiaSources": None if self._moves else earlier,
            "prvDiaForcedSources": None if self._moves else [self._forced(other) for other in range(number)],
            "diaObject": None if self._moves else self._dia_object(source),
            **{name: _extended(stamp) for name, stamp in zip(names, cutouts, strict=True)},
        }

    def _dia_source(self, number: int, taken: set[int]) -> Record:
        identifier = self.identifier + number
        taken.add(identifier)
        flux, error = self._flux(number)
        spread = POSITION_ERROR / 3600.0
        return {
            **_empty("diaSource"),
            **self._exposure(number),
            "diaSourceId": identifier,
            "diaObjectId": 0 if self._moves else self.identifier,
            "ssObjectId": self.identifier if self._moves else 0,
            "ra": self._place.ra,
            "dec": self._place.dec,
            "raErr": spread,
            "decErr": spread,
            "x": self._place.x,
            "y": self._place.y,
            "psfFlux": flux,
            "psfFluxErr": error,
            "snr": abs(flux / error),
            "isNegative": flux < 0.0,
            "reliability": self._random.uniform(0.7, 1.0) if self._source.is_real else self._random.uniform(0.0, 0.4),
        }

    def _dia_object(self, source: Record) -> Record:
        return {
            **_empty("diaObject"),
            "diaObjectId": self.identifier,
            "ra": source["ra"],
            "dec": source["dec"],
            "nDiaSources": sum(row["midpointMjdTai"] <= source["midpointMjdTai"] for row in self._sources.values()),
        }

    def _forced(self, number: int) -> Record:
        flux, error = self._flux(number)
        measured = {"psfFlux": flux, "psfFluxErr": error, "ra": self._place.ra, "dec": self._place.dec}
        names = {"diaForcedSourceId": self.identifier + 2**11 + number, "diaObjectId": self.identifier}
        return {**_empty("diaForcedSource"), **self._exposure(number), **measured, **names}

    def _exposure(self, number: int) -> Record:
        visits = self._measured.visits
        middle = float(visits.jd[number]) - MJD_ZERO + TAI_AHEAD
        return {
            "visit": int(middle * 100_000),
            "detector": self._place.rcid,
            "band": "g" if int(visits.band[number]) == G else "r",
            "midpointMjdTai": middle,
            "timeProcessedMjdTai": middle + 0.001,
        }

    def _flux(self, number: int) -> tuple[float, float]:
        """Flux and error in nJy."""
        return float(self._measured.flux[number]) * NJY, float(self._measured.error[number]) * NJY


def _extended(stamp: bytes) -> bytes:
    """Turn a stamp into one as Rubin sends it: behind the image its uncertainty and the point spread function."""
    whole = images.read(stamp)
    image = whole[CENTRE - HALF_SIZE : CENTRE + HALF_SIZE + 1, CENTRE - HALF_SIZE : CENTRE + HALF_SIZE + 1]
    noise = np.full_like(image, np.nanstd(image))
    reach = np.arange(-PSF_HALF_SIZE, PSF_HALF_SIZE + 1)
    spread = np.exp(-0.5 * np.hypot(*np.meshgrid(reach, reach)) ** 2 / 4.0) / (math.tau * 4.0)
    return plain_fits(image, UNCERT=noise, PSFIMAGE=spread.astype(np.float32))


_NOTHING = {"string": "", "boolean": False}


@cache
def _records() -> dict[str, dict[str, Any]]:
    """The schema's records by the last part of their name, each with what its fields hold if nothing is known."""
    found: dict[str, dict[str, Any]] = {}

    def visit(kind: Any) -> None:
        if isinstance(kind, list):
            for each in kind:
                visit(each)
        elif isinstance(kind, dict):
            visit(kind.get("items"))
            for field in kind.get("fields", ()):
                visit(field["type"])
            if kind.get("type") == "record":
                name = kind["name"].rsplit(".", 1)[-1]
                found[name] = {field["name"]: _nothing(field["type"]) for field in kind["fields"]}

    visit(json.loads(SCHEMA.read_text()))
    return found


def _nothing(kind: Any) -> Any:
    return None if isinstance(kind, list) and "null" in kind else _NOTHING.get(str(kind), 0)


def _empty(name: str) -> Record:
    return dict(_records()[name])
