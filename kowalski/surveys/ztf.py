"""The Zwicky Transient Facility (Masci et al. 2019, PASP 131, 018003), alert schemas up to 4.02.

Packets: https://github.com/ZwickyTransientFacility/ztf-avro-alert
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from kowalski.surveys.base import Alert, History, PacketError, Record, Stamps, Survey

FORCED_PHOTOMETRY_DAYS = 30.0
"""Span of the forced photometry in a packet: younger objects have all of theirs in it."""
MISSING = (-99999, -99999.0)
"""What ZTF's forced photometry writes for "no value"."""
POGSON = 2.5 / math.log(10.0)


class ZTF(Survey):
    """ZTF: bands g, r, i; public (1), partnership (2) and Caltech (3) programs."""

    name = "ZTF"
    topics = r"^ztf_(?P<date>[0-9]{8})_programid[123]$"
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

    def shape(self, packet: Record) -> Alert:
        """See `Survey.shape`; ``prv_candidates`` may be null, ``fp_hists`` absent (schemas before 4.01)."""
        try:
            candidate = packet["candidate"]
            candid, object_id = packet["candid"], packet["objectId"]
            jd, ra, dec = float(candidate["jd"]), float(candidate["ra"]), float(candidate["dec"])
        except (KeyError, TypeError, ValueError) as error:
            raise PacketError(f"required field missing, null or no number: {error}") from error
        if not isinstance(candid, int) or not isinstance(object_id, str) or not object_id:
            raise PacketError(f"candid {candid!r} must be an integer and objectId {object_id!r} a name")
        if not (math.isfinite(jd) and 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
            raise PacketError(f"impossible jd {jd}, ra {ra} or dec {dec}")
        document = {key: value for key, value in packet.items() if key not in ("prv_candidates", "fp_hists")}
        histories = {
            "prv_candidates": [_without_nulls(row) for row in _rows(packet, "prv_candidates")],
            "fp_hists": self.format_history("fp_hists", _rows(packet, "fp_hists"), candidate),
        }
        first = candidate.get("jdstarthist") or 0.0
        young = (candidate.get("ndethist") or 0) <= 1 or jd - first < FORCED_PHOTOMETRY_DAYS
        keeps = frozenset({"prv_candidates", "fp_hists"} if young else {"prv_candidates"})
        return Alert(candid, object_id, jd, ra, dec, document, histories, self.stamps_of(packet), keeps)

    def stamps_of(self, document: Mapping[str, Any]) -> Stamps:
        """See `Survey.stamps_of`: ``{fileName, stampData}`` or null."""
        science, template, difference = ((document.get(field) or {}).get("stampData") for field in self.stamp_fields)
        return Stamps(science, template, difference)

    def format_history(self, name: str, rows: list[Record], alert: Record) -> list[Record]:
        """Drop missing values from forced photometry and add magnitudes, limits and the carrying alert's position."""
        if name != "fp_hists":
            return rows
        carrier = {"alert_mag": alert.get("magpsf"), "alert_ra": alert["ra"], "alert_dec": alert["dec"]}
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
        detections = [(jd, mag) for jd, mag in past if jd <= alert.jd]
        if candidate.get("magpsf") is not None:
            detections.append((alert.jd, candidate["magpsf"]))
        drb = candidate.get("drb")
        derived: Record = {"drb": candidate.get("rb") if drb is None else drb}
        if detections and candidate.get("jdstarthist") is not None:
            first = min(candidate["jdstarthist"], min(jd for jd, _ in detections))
            peak_mag, peak_jd = min((mag, jd) for jd, mag in detections)
            derived |= {
                "peakmag_so_far": min(peak_mag, 30.0),
                "maxmag_so_far": max(0.0, max(mag for _, mag in detections)),
                "days_since_peak": alert.jd - peak_jd,
                "days_to_peak": peak_jd - first,
                "age": alert.jd - first,
            }
        if candidate.get("ncovhist") is not None and candidate.get("ndethist") is not None:
            derived["nnondet"] = candidate["ncovhist"] - candidate["ndethist"]
        return {**candidate, **derived}

    def topic_of(self, night: date, program: int = 1) -> str:
        """See `Survey.topic_of`."""
        return f"ztf_{night:%Y%m%d}_programid{program}"


def _rows(packet: Record, name: str) -> list[Record]:
    rows = list(packet.get(name) or ())
    if not all(isinstance(row.get("jd"), float | int) and math.isfinite(row["jd"]) for row in rows):
        raise PacketError(f"a row of {name} without a possible jd")
    return rows


def _without_nulls(row: Record) -> Record:
    return {key: value for key, value in row.items() if value is not None}


def _magnitudes(row: Record) -> Record:
    """Derive magnitude, error, signal-to-noise and limits of one forced measurement.

    Fluxes are in the units of ``magzpsci``; a value that can't be computed is left out.
    """
    flux, error, zero = (row.get(key) for key in ("forcediffimflux", "forcediffimfluxunc", "magzpsci"))
    if flux is None or error is None or zero is None or not error > 0.0 or not math.isfinite(flux / error):
        return {}
    derived = {
        "snr": flux / error,
        "limmag3sig": -2.5 * math.log10(3.0 * error) + zero,
        "limmag5sig": -2.5 * math.log10(5.0 * error) + zero,
    }
    if flux > 0.0:
        derived |= {"mag": -2.5 * math.log10(flux) + zero, "magerr": POGSON * error / flux}
    return {name: value for name, value in derived.items() if math.isfinite(value)}
