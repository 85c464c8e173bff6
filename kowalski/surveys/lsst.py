"""Rubin Observatory's Legacy Survey of Space and Time, alert schemas 7.1 to 10.0 and later ones that keep what is used.

Packets: https://github.com/lsst/alert_packet; their meaning: https://sdm-schemas.lsst.io/apdb.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kowalski.science.photometry import FORCED_SIGMA, LightCurve, calibrated_photometry, magnitudes
from kowalski.science.times import jd_of_tai
from kowalski.surveys.base import Alert, History, PacketError, Record, Survey

SOURCE = "diaSource"
ROWS = {"prv_candidates": "prvDiaSources", "fp_hists": "prvDiaForcedSources"}
"""History -> the packet's field of its rows."""
VERSION = re.compile(r"\bv([0-9]+)_([0-9]+)\b")


class LSST(Survey):
    """LSST: bands u, g, r, i, z, y; everything is public; objects are difference sources or Solar-System bodies.

    ``candidate`` is the packet's ``diaSource`` as it came (fluxes in nJy), and what other surveys' candidates have,
    too: ``jd`` (UTC), ``fid`` (the band's letter), ``candid``, and AB magnitudes of ``psfFlux``. Rows of the histories
    are told from null and NaN and get the same.
    """

    name = "LSST"
    topics = r"^lsst_(?P<date>[0-9]{8})$"
    topic = "lsst_{night:%Y%m%d}"
    simulator = "kowalski.testing.simulator.lsst"
    numbers_schemas = True
    position_error = 0.2
    histories = (
        History("prv_candidates", key=("jd", "diaSourceId")),
        History("fp_hists", key=("jd", "diaForcedSourceId")),
    )
    kept_fields = (
        *Survey.kept_fields,
        "diaObject",
        "ssSource",
        "ssObject",
        "mpc_orbits",
        "MPCORB",
        "observation_reason",
        "target_name",
    )
    required = (f"{SOURCE}.diaSourceId", f"{SOURCE}.midpointMjdTai", f"{SOURCE}.ra", f"{SOURCE}.dec")
    stamp_orientation = ("flipud",)
    instrument = "LSST"
    bands = {band: f"lsst{band}" for band in "ugrizy"}
    streams = {0: "LSST"}
    stream_words = ("lsst",)

    def object_name(self, packet: Record) -> str | None:
        """See `Survey.object_name`: ``diaObjectId`` or, for a known moving object, ``ssObjectId``."""
        name = _identifier(packet, "diaObject") or _identifier(packet, "ssObject")
        return None if name is None else str(name)

    def shape(self, packet: Record) -> Alert:
        """See `Survey.shape`."""
        source = self.checked(packet)[SOURCE]
        shaped = {name: value for name, value in packet.items() if name != SOURCE and name not in ROWS.values()}
        shaped["candid"], shaped["objectId"] = source["diaSourceId"], self.object_name(packet)
        if shaped["objectId"] is None:
            raise PacketError("neither diaObjectId nor ssObjectId names its object")
        shaped["candidate"] = {**source, **_common(source), "candid": source["diaSourceId"]}
        for history, rows in ROWS.items():
            shaped[history] = [_row(row) for row in packet.get(rows) or ()]
        alert = super().shape(shaped)
        alert.moves = _identifier(packet, "diaObject") is None
        return alert

    def format_history(self, name: str, rows: list[Record], candidate: Record) -> list[Record]:
        """See `Survey.format_history`; `shape` has done it."""
        return rows

    def alert_curve(self, rows: Sequence[Record]) -> LightCurve:
        """See `Survey.alert_curve`: the fluxes are in the packets."""
        return calibrated_photometry(rows, self.bands)

    def forced_curve(self, rows: Sequence[Record]) -> LightCurve:
        """See `Survey.forced_curve`: the fluxes are in the packets."""
        return calibrated_photometry(rows, self.bands, FORCED_SIGMA)

    def schema_number(self, name: str) -> int | None:
        """See `Survey.schema_number`: 100 times the major plus the minor version, e.g. 900 for ``lsst.v9_0.alert``."""
        found = VERSION.search(name)
        return None if found is None else 100 * int(found[1]) + int(found[2])


def _identifier(packet: Record, kind: str) -> int | None:
    """Find the identifier of the packet's object of one kind; 0 means none."""
    holders = (packet.get(SOURCE), packet.get(kind))
    return next((holder[f"{kind}Id"] for holder in holders if holder and holder.get(f"{kind}Id")), None)


def _common(source: Record) -> dict[str, Any]:
    """What measurements of all surveys have, under the same names."""
    derived: dict[str, Any] = magnitudes(source.get("psfFlux"), source.get("psfFluxErr"))
    derived["jd"], derived["fid"] = jd_of_tai(source["midpointMjdTai"]), source.get("band")
    return derived


def _row(row: Record) -> Record:
    kept = row.copy()  # and what is missing taken out: a third cheaper than to pick what is there, and there are many
    for name in [name for name, value in row.items() if value is None or value != value]:
        del kept[name]
    kept.update(_common(row))
    if "diaSourceId" in row:
        kept["candid"] = row["diaSourceId"]
    return kept
