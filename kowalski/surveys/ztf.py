"""The Zwicky Transient Facility (Masci et al. 2019, PASP 131, 018003), alert schemas up to 4.02.

Packets: https://github.com/ZwickyTransientFacility/ztf-avro-alert
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from kowalski.surveys.base import Alert, History, Record, Survey

FORCED_PHOTOMETRY_DAYS = 30.0
"""Span of the forced photometry in a packet: younger objects have all of theirs in it."""
MISSING = (-99999, -99999.0)
"""What ZTF's forced photometry writes for "no value"."""
POGSON = 2.5 / math.log(10.0)


class ZTF(Survey):
    """ZTF: bands g, r, i; public (1), partnership (2) and Caltech (3) programs."""

    name = "ZTF"
    topics = r"^ztf_(?P<date>[0-9]{8})_programid[123]$"
    topic = "ztf_{night:%Y%m%d}_programid{program}"
    simulator = "kowalski.testing.simulator.ztf"
    position_error = 1.5
    histories = (
        History("prv_candidates", key=("jd", "fid", "pid", "candid"), by_program=True),
        History("fp_hists", key=("jd",), prefer=("alert_mag",), by_program=True, match={"procstatus": "0"}),
    )
    program_field = "candidate.programid"
    history_features = frozenset({"peakmag_so_far", "maxmag_so_far", "days_since_peak", "days_to_peak", "age"})
    stamp_orientation = ("flipud",)
    instrument = "ZTF"
    bands = {1: "ztfg", 2: "ztfr", 3: "ztfi"}
    streams = {
        0: "ZTF Public+Partnership+Caltech",
        1: "ZTF Public",
        2: "ZTF Public+Partnership",
        3: "ZTF Public+Partnership+Caltech",
    }

    def keeps(self, candidate: Record, jd: float) -> frozenset[str]:
        """See `Survey.keeps`: forced photometry of young objects only, as all of theirs is in the packets."""
        detections, first = candidate.get("ndethist"), candidate.get("jdstarthist")
        young = not _is_number(detections) or detections <= 1
        young = young or (_is_number(first) and jd - first < FORCED_PHOTOMETRY_DAYS)
        return frozenset({"prv_candidates", "fp_hists"} if young else {"prv_candidates"})

    def format_history(self, name: str, rows: list[Record], candidate: Record) -> list[Record]:
        """Drop missing values from forced photometry and add magnitudes, limits and the carrying alert's position."""
        if name != "fp_hists":
            return super().format_history(name, rows, candidate)
        carrier = {"alert_mag": candidate.get("magpsf"), "alert_ra": candidate["ra"], "alert_dec": candidate["dec"]}
        formatted: list[Record] = []
        for row in sorted(rows, key=lambda row: float(row["jd"])):
            if formatted and formatted[-1]["jd"] == row["jd"]:
                continue
            kept = {key: value for key, value in row.items() if value is not None and value not in MISSING}
            formatted.append(kept | _magnitudes(kept) | carrier)
        return formatted

    def features(self, alert: Alert, past: Sequence[tuple[float, float]]) -> Mapping[str, Any]:
        """Give ``candidate`` and what BTSbot derives of the light curve up to the alert (Rehemtulla et al. 2024)."""
        candidate = alert.document["candidate"]
        detections = [(jd, mag) for jd, mag in (*past, (alert.jd, candidate.get("magpsf"))) if _is_number(mag)]
        detections = [(jd, mag) for jd, mag in detections if jd <= alert.jd]
        drb, start = candidate.get("drb"), candidate.get("jdstarthist")
        derived: Record = {"drb": candidate.get("rb") if drb is None else drb}
        if detections and _is_number(start):
            first = min(start, min(jd for jd, _ in detections))
            peak_mag, peak_jd = min((mag, jd) for jd, mag in detections)
            derived |= {
                "peakmag_so_far": min(peak_mag, 30.0),
                "maxmag_so_far": max(0.0, max(mag for _, mag in detections)),
                "days_since_peak": alert.jd - peak_jd,
                "days_to_peak": peak_jd - first,
                "age": alert.jd - first,
            }
        exposures, detected = candidate.get("ncovhist"), candidate.get("ndethist")
        if _is_number(exposures) and _is_number(detected):
            derived["nnondet"] = exposures - detected
        return {**candidate, **derived}


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) is float or type(value) is int


def _magnitudes(row: Record) -> Record:
    """Derive magnitude, error, signal-to-noise and limits of one forced measurement.

    Fluxes are in the units of ``magzpsci``; a value that can't be computed is left out.
    """
    flux, error, zero = (row.get(key) for key in ("forcediffimflux", "forcediffimfluxunc", "magzpsci"))
    if not (_is_number(flux) and _is_number(error) and _is_number(zero)):
        return {}
    if not error > 0.0 or not math.isfinite(flux / error):
        return {}
    derived = {
        "snr": flux / error,
        "limmag3sig": -2.5 * math.log10(3.0 * error) + zero,
        "limmag5sig": -2.5 * math.log10(5.0 * error) + zero,
    }
    if flux > 0.0:
        derived |= {"mag": -2.5 * math.log10(flux) + zero, "magerr": POGSON * error / flux}
    return {name: value for name, value in derived.items() if math.isfinite(value)}
