"""Simulated alert packets of the Zwicky Transient Facility, schema 4.02.

Field names and types are those of ``ztf_schema.json``. What depends on the sky follows from the simulated source and
its measurements; the many fields about image quality and calibration are drawn from the ranges that real packets show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from kowalski.testing.simulator.container import Record
from kowalski.testing.simulator.observations import WEEKS_DAYS, Measurements
from kowalski.testing.simulator.places import ORDINAL_ZERO, Place, letters, unused
from kowalski.testing.simulator.sources import ZERO, Asteroid, G, Source
from kowalski.testing.simulator.stamps import Scene

__all__ = ["SCHEMA", "Object"]

SCHEMA = Path(__file__).with_name("ztf_schema.json")
DAY_ZERO = 2457754.5
"""Julian date of night 0."""
HISTORY_DAYS = 30.0
NONE, MISSING = -999.0, -99999.0
"""What ZTF writes for "no such thing", and in forced photometry for "no value"."""
BRIGHTER, FAINTER = 15, 10
"""Part of a candid that tells the sign of the difference."""
PROCESSED, BAD_PIXELS = "0", "61"
TWINS = 0.2
"""Part of the objects with a detection that is in the history twice: images overlap, or were processed again."""
REAL_BOGUS, DEEP_REAL_BOGUS = "t17_f5_c3", "d6_m7"


class Object:
    """One object with all that was ever measured of it.

    Parameters
    ----------
    index, seed
        Which object of which run: they determine the name.
    source, measured
        What it is and what was seen of it.
    random
        Where everything else comes from.
    taken
        Identifiers that are in use; those of this object are added.
    """

    def __init__(
        self, index: int, seed: int, source: Source, measured: Measurements, random: Generator, taken: set[int]
    ) -> None:
        self._source, self._measured, self._random = source, measured, random
        self._place = Place.draw(random)
        self._scene = Scene(source, random)
        start = float(measured.visits.jd[0]) - source.known_days
        self._earlier = int(source.known_days / WEEKS_DAYS * 10.0)  # detections before the simulated weeks
        self._first = start if self._earlier else float(measured.visits.jd[np.flatnonzero(measured.detected)[0]])
        self._start = start
        self.name = f"ZTF{date.fromordinal(int(self._first - ORDINAL_ZERO)):%y}{letters(index, seed, 7)}"
        shown = np.flatnonzero(measured.visits.jd > measured.visits.jd[-1] - HISTORY_DAYS - 1.0).tolist()
        self._exposures = {number: self._exposure(number) for number in shown}
        self._detections = {number: self._detection(number, taken) for number in shown if measured.detected[number]}
        self._forced = {number: self._forced_photometry(number) for number in shown}
        self._twin = self._make_twin(taken)

    def alerts(self, night: float) -> Iterator[Record]:
        """Make a packet of each detection since ``night``, in order of time."""
        for number, row in self._detections.items():
            if row["jd"] > night:
                yield self._packet(number)

    def _packet(self, number: int) -> Record:
        candidate = self._candidate(number)
        jd = candidate["jd"]
        past = [index for index in range(number) if self._measured.visits.jd[index] > jd - HISTORY_DAYS]
        rows = [self._history_row(index) for index in past]
        if self._twin is not None and jd - HISTORY_DAYS < self._twin["jd"] < jd:
            rows.append(self._twin)
            rows.sort(key=lambda row: float(row["jd"]))
        names = ("sci", "ref", "diff")
        cutouts = [
            {"fileName": f"candid{candidate['candid']}_{name}.fits.gz", "stampData": stamp}
            for name, stamp in zip(names, self._scene.stamps(self._measured, number, self._random), strict=True)
        ]
        return {
            "schemavsn": "4.02",
            "publisher": "Kowalski alert simulator",
            "objectId": self.name,
            "candid": candidate["candid"],
            "candidate": candidate,
            "prv_candidates": rows or None,
            "fp_hists": [self._forced[index] for index in reversed(past)] or None,
            "cutoutScience": cutouts[0],
            "cutoutTemplate": cutouts[1],
            "cutoutDifference": cutouts[2],
        }

    def _history_row(self, number: int) -> Record:
        found = self._detections.get(number)
        return _empty_row() | self._exposures[number] if found is None else found

    def _make_twin(self, taken: set[int]) -> Record | None:
        """Describe one earlier detection a second time, as the processing of another image would."""
        if len(self._detections) < 2 or self._random.random() > TWINS:
            return None
        row = next(iter(self._detections.values()))
        pid = row["pid"] + 100
        candid = unused(pid * 1_000_000 + row["candid"] % 1_000_000, taken)
        return row | {"pid": pid, "candid": candid, "magpsf": row["magpsf"] + 0.01}

    def _exposure(self, number: int) -> Record:
        """Describe one exposure, whatever was found in it."""
        visits, place, random = self._measured.visits, self._place, self._random
        jd, band = float(visits.jd[number]), int(visits.band[number])
        night = int(jd - DAY_ZERO)
        moment = int((jd - DAY_ZERO - night) * 1_000_000)
        ccd, quadrant = divmod(place.rcid, 4)
        day = date.fromordinal(int(jd - ORDINAL_ZERO))
        letter = "g" if band == G else "r"
        return {
            "jd": jd,
            "fid": band,
            "pid": int(f"{night}{moment // 10:05d}{place.rcid:02d}15"),
            "diffmaglim": float(visits.limit[number]),
            "pdiffimfilename": f"ztf_{day:%Y%m%d}{moment:06d}_{place.field:06d}_z{letter}_c{ccd + 1:02d}"
            f"_o_q{quadrant + 1}_scimrefdiffimg.fits",
            "programpi": "Simulated",
            "programid": 1,
            "nid": night,
            "rcid": place.rcid,
            "field": place.field,
            "magzpsci": float(visits.zero[number]),
            "magzpsciunc": random.uniform(1e-6, 8e-5),
            "magzpscirms": random.uniform(0.017, 0.06),
            "clrcoeff": random.normal(-0.05 if band == G else 0.1, 0.02),
            "clrcounc": random.uniform(3e-6, 1e-4),
            "rbversion": REAL_BOGUS,
        }

    def _detection(self, number: int, taken: set[int]) -> Record:
        """Describe one detection as later packets will remember it: without an asteroid near it."""
        exposure, brighter = self._exposures[number], bool(self._measured.flux[number] > 0.0)
        sign = BRIGHTER if brighter else FAINTER
        candid = unused(exposure["pid"] * 1_000_000 + sign * 1000 + int(self._random.integers(0, 100)), taken)
        return {
            **_empty_row(),
            **exposure,
            "candid": candid,
            "isdiffpos": "t" if brighter else "f",
            "tblid": candid % 1000,
            "ra": self._place.ra,
            "dec": self._place.dec,
            "xpos": self._place.x,
            "ypos": self._place.y,
            "mindtoedge": min(self._place.x, self._place.y, 3072.0 - self._place.x, 3080.0 - self._place.y),
            **self._photometry(number),
            **self._shape(number),
            **self._reference(number),
        }

    def _candidate(self, number: int) -> Record:
        """Add to a detection what a packet says about its own alert only."""
        return {
            **self._detections[number],
            **self._solar_system(),
            **self._surroundings,
            **self._record(number),
            **self._calibration(number),
            "drb": self._score(),
            "drbversion": DEEP_REAL_BOGUS,
        }

    def _photometry(self, number: int) -> Record:
        magnitude, random = self._measured.magnitude(number), self._random
        error = self._measured.magnitude_error(number)
        aperture = magnitude + random.normal(0.0, error)
        return {
            "magpsf": magnitude,
            "sigmapsf": error,
            "chipsf": 0.8 + random.exponential(0.5 if self._source.is_real else 20.0),
            "magap": aperture,
            "sigmagap": 1.3 * error,
            "magapbig": aperture + random.normal(0.0, error),
            "sigmagapbig": 1.6 * error,
            "magdiff": aperture - magnitude,
            "magfromlim": self._exposures[number]["diffmaglim"] - aperture,
            "scorr": 1.0 / self._measured.signal_error(number),
            "sky": random.normal(0.1, 0.6),
        }

    def _shape(self, number: int) -> Record:
        seeing, random = float(self._measured.visits.seeing[number]), self._random
        elongation = 1.0 + random.exponential(0.08 if self._source.is_real else 0.5)
        width = seeing / 2.3548 * random.uniform(0.9, 1.1)
        return {
            "fwhm": seeing * random.uniform(0.9, 1.1),
            "classtar": random.uniform(0.85, 1.0) if self._source.is_real else random.uniform(0.3, 1.0),
            "seeratio": random.uniform(0.85, 1.5),
            "aimage": width * elongation,
            "bimage": width,
            "aimagerat": width * elongation / seeing,
            "bimagerat": width / seeing,
            "elong": elongation,
            "nneg": int(random.integers(0, 8)),
            "nbad": 0,
            "sumrat": random.uniform(0.9, 1.0) if self._source.is_real else random.uniform(0.3, 0.9),
            "rb": random.uniform(0.6, 0.98) if self._source.is_real else random.uniform(0.05, 0.45),
        }

    def _score(self) -> float:
        """Draw what a good classifier would think of it: near 1 for real sources, near 0 for others."""
        if self._source.is_real:
            return float(1.0 - 10.0 ** self._random.uniform(-5.0, -1.0))
        return float(10.0 ** self._random.uniform(-4.0, -0.5))

    def _solar_system(self) -> Record:
        if not isinstance(self._source, Asteroid):
            return {"ssdistnr": NONE, "ssmagnr": NONE, "ssnamenr": "null"}
        distance = float(self._random.exponential(0.5))
        return {"ssdistnr": distance, "ssmagnr": self._source.predicted, "ssnamenr": self._source.name}

    def _reference(self, number: int) -> Record:
        """Describe the nearest source of the reference image, in the band of the exposure."""
        near, random = self._source.counterpart, self._random
        magnitude = near.magnitude_in(self._exposures[number]["fid"])
        east = near.separation / 3600.0 * math.sin(near.angle) / max(math.cos(math.radians(self._place.dec)), 1e-3)
        return {
            "distnr": near.separation,
            "magnr": magnitude,
            "sigmagnr": 0.012 + 10.0 ** (0.4 * (magnitude - 23.5)) * 0.2,
            "chinr": random.uniform(0.3, 2.0),
            "sharpnr": random.normal(0.0, 0.02) if near.star > 0.5 else random.uniform(0.1, 0.5),
            "ranr": (self._place.ra + east) % 360.0,
            "decnr": self._place.dec + near.separation / 3600.0 * math.cos(near.angle),
        }

    @cached_property
    def _surroundings(self) -> Record:
        """Neighbours in Pan-STARRS 1 and Gaia: the same in every alert of the object."""
        near, random = self._source.counterpart, self._random
        found: Record = {"nmtchps": int(random.integers(3, 25))}
        distance, magnitude, star = near.separation, near.magnitude, near.star
        for rank in (1, 2, 3):
            bands = {"g": near.colour, "r": 0.0, "i": -0.2, "z": -0.3}
            found |= {f"s{band}mag{rank}": magnitude + colour for band, colour in bands.items()}
            found |= {f"sgscore{rank}": star, f"distpsnr{rank}": distance}
            found[f"objectidps{rank}"] = int(random.integers(70_000_000_000_000_000, 200_000_000_000_000_000))
            distance += random.uniform(1.0, 10.0)
            magnitude, star = random.uniform(17.0, 22.0), random.uniform(0.0, 1.0)
        in_gaia = near.star > 0.5
        found["neargaia"] = near.separation if in_gaia else random.uniform(5.0, 60.0)
        found["maggaia"] = near.magnitude if in_gaia else random.uniform(15.0, 20.5)
        return found | {"neargaiabright": NONE, "maggaiabright": NONE}

    def _record(self, number: int) -> Record:
        """Count detections and exposures up to this one."""
        jd = self._exposures[number]["jd"]
        detections = int(np.count_nonzero(self._measured.detected[: number + 1]))
        return {
            "ndethist": self._earlier + detections,
            "ncovhist": int((jd - self._start) * 0.9) + number + 1,
            "jdstarthist": self._first,
            "jdendhist": jd,
            "tooflag": 0,
        }

    def _calibration(self, number: int) -> Record:
        random, exposure = self._random, self._exposures[number]
        return {
            "rfid": _reference_image(exposure),
            "jdstartref": 2458150.5 + self._place.field % 100,
            "jdendref": 2458350.5 + self._place.field % 100,
            "nframesref": 15 + self._place.rcid % 10,
            "dsnrms": random.uniform(3.0, 80.0),
            "ssnrms": random.uniform(8.0, 170.0),
            "dsdiff": random.uniform(-90.0, -2.0),
            "nmatches": int(random.integers(200, 2200)),
            "zpclrcov": -random.uniform(1e-6, 8e-5),
            "zpmed": exposure["magzpsci"] + random.normal(0.0, 0.03),
            "clrmed": random.uniform(0.45, 1.0),
            "clrrms": random.uniform(0.13, 0.34),
            "exptime": 30.0,
        }

    def _forced_photometry(self, number: int) -> Record:
        """Measure at the object's place, whether or not there is a detection; now and then pixels are bad."""
        exposure, random = self._exposures[number], self._random
        scale = 10.0 ** (0.4 * (exposure["magzpsci"] - ZERO))
        good = random.random() > 0.03
        shared = ("field", "rcid", "fid", "pid", "magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc")
        measured: Record = {name: exposure[name] for name in (*shared, "diffmaglim", "programid", "jd")}
        reference = {name: value if good else MISSING for name, value in self._reference(number).items()}
        return (
            measured
            | reference
            | {
                "rfid": _reference_image(exposure),
                "sciinpseeing": float(self._measured.visits.seeing[number]),
                "scibckgnd": random.uniform(90.0, 400.0),
                "scisigpix": random.uniform(4.0, 20.0),
                "exptime": 30.0,
                "adpctdif1": random.uniform(0.064, 0.13),
                "adpctdif2": random.uniform(0.067, 0.13),
                "forcediffimflux": float(self._measured.flux[number]) * scale if good else MISSING,
                "forcediffimfluxunc": float(self._measured.error[number]) * scale if good else MISSING,
                "procstatus": PROCESSED if good else BAD_PIXELS,
            }
        )


def _reference_image(exposure: Record) -> int:
    return int(exposure["field"] * 1_000_000 + 120_000 + exposure["fid"] * 100 + exposure["rcid"])


@cache
def _empty_row() -> Record:
    """A row of ``prv_candidates`` in which nothing is known."""
    fields: list[dict[str, Any]] = json.loads(SCHEMA.read_text())["fields"]
    rows = next(field["type"][1]["items"] for field in fields if field["name"] == "prv_candidates")
    return dict.fromkeys(field["name"] for field in rows["fields"])
