"""ZTF packets (schema 4.02) of simulated sources: every field of the schema, with values that belong together."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.random import Generator

from kowalski.testing.simulator.container import Container, Record
from kowalski.testing.simulator.observations import Measurements
from kowalski.testing.simulator.sources import Asteroid, G, Source
from kowalski.testing.simulator.stamps import Scene

SCHEMA = Path(__file__).with_name("ztf_schema.json")
HISTORY_DAYS = 30.0
"""How far a packet's history and forced photometry reach back."""
UNIX_EPOCH_JD = 2440587.5
NIGHT_ZERO = 2457754.5
"""JD of 2017 January 1, from which ZTF counts nights."""
MISSING = -999.0
BAND_NAMES = {1: "zg", 2: "zr", 3: "zi"}


class ZtfObject:
    """One object on the sky and all packets that are made of it.

    Parameters
    ----------
    source
        What it is.
    measured
        Its measurements; each detection of the night can be alerted on.
    number
        Distinguishes it from all other objects of a run.
    """

    def __init__(self, source: Source, measured: Measurements, number: int, name: str, random: Generator) -> None:
        self._source, self._measured, self._number, self._name, self._random = source, measured, number, name, random
        self._ra = random.uniform(0.0, 360.0)
        self._dec = math.degrees(math.asin(random.uniform(-0.48, 0.97)))  # what Palomar sees
        self._scene = Scene(source, random)
        self._field = int(random.integers(246, 880))
        self._rcid = int(random.integers(0, 64))
        self._rows = [self._row(index) for index in range(measured.flux.size)]

    def packet(self, index: int) -> Record:
        """Make the packet of measurement ``index``, a detection."""
        row, jd = self._rows[index], float(self._measured.visits.jd[index])
        first = next(i for i, seen in enumerate(self._measured.detected) if seen)
        history = [i for i in range(index) if jd - float(self._measured.visits.jd[i]) < HISTORY_DAYS]
        known = self._source.known_days
        candidate = row | self._reference() | self._quality(row) | {
            "ndethist": int(self._measured.detected[: index + 1].sum() + known // 4),
            "ncovhist": int(index + 1 + known // 2),
            "jdstarthist": float(self._measured.visits.jd[first]) - known,
            "jdendhist": jd,
        }  # fmt: skip
        prefix = f"candid{row['candid']}_pid{row['pid']}_targ"
        stamps = self._scene.stamps(self._measured, index, self._random)
        cutouts = zip(("Science", "Template", "Difference"), ("sci", "ref", "scimref"), stamps, strict=True)
        return {
            "schemavsn": "4.02",
            "publisher": "Kowalski simulator",
            "objectId": self._name,
            "candid": row["candid"],
            "candidate": candidate,
            "prv_candidates": [self._history_row(i) for i in history],
            "fp_hists": [self._forced(i) for i in history],
            **{
                f"cutout{kind}": {"fileName": f"{prefix}_{short}.fits.gz", "stampData": data}
                for kind, short, data in cutouts
            },
        }

    def _row(self, index: int) -> Record:
        """Make what ``candidate`` and ``prv_candidates`` share, for a detection."""
        measured, random = self._measured, self._random
        jd, fid = float(measured.visits.jd[index]), int(measured.visits.band[index])
        nid = int(jd - NIGHT_ZERO)
        pid = int((jd - NIGHT_ZERO) * 1e6) * 10_000 + self._rcid * 100 + 15
        limit, seeing = float(measured.visits.limit[index]), float(measured.visits.seeing[index])
        magnitude, error = measured.magnitude(index), measured.magnitude_error(index)
        aperture = magnitude + random.normal(0.0, error)
        near = self._source.counterpart
        offset = near.separation / 3600.0
        scatter = random.normal(0.0, 0.08 / 3600.0, 2)
        ra, dec = self._ra + scatter[0] / math.cos(math.radians(self._dec)), self._dec + scatter[1]
        sharp = random.normal(0.0, 0.05)
        return {
            "jd": jd, "fid": fid, "pid": pid, "diffmaglim": limit, "pdiffimfilename": self._image(jd, fid),
            "programpi": "Simulated", "programid": 1, "candid": pid * 1000 + self._number % 1000,
            "isdiffpos": "t" if measured.flux[index] > 0.0 else "f", "tblid": int(random.integers(0, 500)), "nid": nid,
            "rcid": self._rcid, "field": self._field, "xpos": random.uniform(1, 3071), "ypos": random.uniform(1, 3079),
            "ra": round(ra % 360.0, 7), "dec": round(dec, 7), "magpsf": magnitude, "sigmapsf": error,
            "chipsf": abs(random.normal(1.0, 0.3)), "magap": aperture, "sigmagap": error * 1.1,
            "distnr": near.separation, "magnr": near.magnitude_in(fid), "sigmagnr": 0.02,
            "chinr": random.uniform(0.5, 2.0),
            "sharpnr": sharp, "sky": random.normal(0.0, 1.0), "magdiff": aperture - magnitude, "fwhm": seeing,
            "classtar": near.star, "mindtoedge": random.uniform(50, 1500), "magfromlim": limit - aperture,
            "seeratio": seeing / 2.0, "aimage": seeing / 2.8, "bimage": seeing / 3.0, "aimagerat": seeing / 5.6,
            "bimagerat": seeing / 6.0, "elong": abs(random.normal(0.0, 0.1)) + 1.0, "nneg": int(random.integers(0, 9)),
            "nbad": 0, "rb": self._real(), "ssdistnr": MISSING, "ssmagnr": MISSING, "ssnamenr": "null",
            "sumrat": random.uniform(0.7, 1.0) if self._source.is_real else random.uniform(0.1, 0.8),
            "magapbig": aperture - 0.05, "sigmagapbig": error * 1.2,
            "ranr": round((self._ra + offset * math.sin(near.angle) / math.cos(math.radians(self._dec))) % 360.0, 7),
            "decnr": round(self._dec + offset * math.cos(near.angle), 7), "scorr": 1.0 / measured.signal_error(index),
            "magzpsci": float(measured.visits.zero[index]), "magzpsciunc": 1e-4, "magzpscirms": 0.05,
            "clrcoeff": -0.04 if fid == G else 0.11, "clrcounc": 1e-4, "rbversion": "t17_f5_c3",
        } | self._ephemeris(fid)  # fmt: skip

    def _ephemeris(self, fid: int) -> Record:
        if not isinstance(self._source, Asteroid):
            return {}
        magnitude = self._source.predicted + (0.5 if fid == G else 0.0)
        return {"ssdistnr": self._random.uniform(0.0, 2.0), "ssmagnr": magnitude, "ssnamenr": self._source.name}

    def _real(self) -> float:
        a, b = (8.0, 1.5) if self._source.is_real else (1.2, 6.0)
        return float(self._random.beta(a, b))

    def _reference(self) -> Record:
        """What the reference image and Pan-STARRS show near the object; the same in all its alerts."""
        near = self._source.counterpart
        fields: Record = {
            "rfid": self._field * 1_000_000 + self._rcid, "jdstartref": 2458200.7,
            "jdendref": 2458500.8, "nframesref": 15,
            "neargaia": near.separation + 0.05 if near.star > 0.5 else 40.0, "maggaia": near.magnitude,
            "neargaiabright": MISSING, "maggaiabright": MISSING, "nmtchps": 3, "tooflag": 0, "exptime": 30.0,
        }  # fmt: skip
        for rank in (1, 2, 3):
            first = rank == 1
            fields |= {f"s{band}mag{rank}": near.magnitude + 0.1 * rank if first else MISSING for band in "gri"}
            fields |= {
                f"szmag{rank}": near.magnitude - 0.1 if first else MISSING,
                f"sgscore{rank}": near.star if first else 0.5,
                f"distpsnr{rank}": near.separation if first else 8.0 + 3.0 * rank,
                f"objectidps{rank}": 10**16 + self._number * 10 + rank,
            }
        return fields

    def _quality(self, row: Record) -> Record:
        drb = row["rb"] + self._random.normal(0.0, 0.03)
        return {
            "drb": min(max(drb, 0.0), 1.0), "drbversion": "d6_m7", "dsnrms": 20.0, "ssnrms": 22.0, "dsdiff": -2.0,
            "nmatches": 800, "zpclrcov": -1e-4, "zpmed": row["magzpsci"] - 0.03, "clrmed": 0.7, "clrrms": 0.2,
        }  # fmt: skip

    def _history_row(self, index: int) -> Record:
        """Make a row of ``prv_candidates``: a detection as it was alerted on, or an upper limit."""
        row = self._rows[index]
        if self._measured.detected[index]:
            return row
        kept = (
            "jd", "fid", "pid", "diffmaglim", "pdiffimfilename", "programpi", "programid", "nid", "rcid", "field",
            "magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc", "rbversion",
        )  # fmt: skip
        return dict.fromkeys(row) | {name: row[name] for name in kept}

    def _forced(self, index: int) -> Record:
        row = self._rows[index]
        scale = 10.0 ** (0.4 * (row["magzpsci"] - 26.0))
        return {
            "field": row["field"], "rcid": row["rcid"], "fid": row["fid"], "pid": row["pid"],
            "rfid": row["field"] * 1_000_000 + row["rcid"], "sciinpseeing": row["fwhm"], "scibckgnd": 150.0,
            "scisigpix": 8.0, "magzpsci": row["magzpsci"], "magzpsciunc": 1e-4, "magzpscirms": 0.05,
            "clrcoeff": row["clrcoeff"], "clrcounc": 1e-4, "exptime": 30.0, "adpctdif1": 0.08, "adpctdif2": 0.08,
            "diffmaglim": row["diffmaglim"], "programid": 1, "jd": row["jd"],
            "forcediffimflux": float(self._measured.flux[index]) * scale,
            "forcediffimfluxunc": float(self._measured.error[index]) * scale, "procstatus": "0",
            "distnr": row["distnr"], "ranr": row["ranr"], "decnr": row["decnr"], "magnr": row["magnr"],
            "sigmagnr": row["sigmagnr"], "chinr": row["chinr"], "sharpnr": row["sharpnr"],
        }  # fmt: skip

    def _image(self, jd: float, fid: int) -> str:
        day = np.datetime64("1970-01-01") + np.timedelta64(int(jd - UNIX_EPOCH_JD), "D")
        stamp = str(day).replace("-", "") + f"{int((jd - UNIX_EPOCH_JD) % 1.0 * 1e6):06d}"
        place = f"{self._field:06d}_{BAND_NAMES[fid]}_c{self._rcid // 4 + 1:02d}_o_q{self._rcid % 4 + 1}"
        return f"ztf_{stamp}_{place}_scimrefdiffimg.fits"


def object_name(number: int, year: int = 23) -> str:
    """Name of the ``number``-th object of a run, as ZTF would write it."""
    letters = ""
    for _ in range(7):
        number, rest = divmod(number, 26)
        letters = chr(ord("a") + rest) + letters
    return f"ZTF{year % 100:02d}{letters}"


def container() -> Container:
    """Make the writer of ZTF's packets."""
    return Container(SCHEMA)
