"""The Wide-field Infrared Transient Explorer (Lourie et al. 2020, SPIE 11447): bands Y, J and short H."""

from __future__ import annotations

from kowalski.surveys.base import Alert, History, Record, Survey

OLDER = {
    "objectId": "objectid",
    "cutoutScience": "cutout_science",
    "cutoutTemplate": "cutout_template",
    "cutoutDifference": "cutout_difference",
}
"""Names in packets of 2022 (also those of WIRC), and what they are called since."""


class WINTER(Survey):
    """WINTER: names of fields in lower case, ``isdiffpos`` a boolean, earlier detections without limiting magnitude."""

    name = "WNTR"
    topics = r"^winter_(?P<date>[0-9]{8})$"
    topic = "winter_{night:%Y%m%d}"
    simulator = "kowalski.testing.simulator.winter"
    position_error = 1.0
    object_id_field = "objectid"
    histories = (History("prv_candidates", key=("jd", "fid", "candid"), days=1000.0),)
    stamp_fields = ("cutout_science", "cutout_template", "cutout_difference")
    stamp_stretch = "sigma"
    instrument = "WINTER"
    bands = {1: "ps1::y", 2: "2massj", 3: "2massh"}  # 4 is a dark exposure
    streams = {0: "WINTER"}
    stream_words = ("wntr", "winter")

    def shape(self, packet: Record) -> Alert:
        """See `Survey.shape`; fields of older packets get today's names, so that one query finds all alerts."""
        if not OLDER.keys().isdisjoint(packet):
            packet = {OLDER.get(name, name): value for name, value in packet.items()}
        return super().shape(packet)
