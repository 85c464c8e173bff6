"""The Turbo telescopes (Total-Coverage Ultra-Fast Response to Binary Mergers Observatory), alert schema 0.1."""

from __future__ import annotations

from kowalski.surveys.base import History, Survey

FILTERS = range(10)
PROGRAMS = range(4)


class TURBO(Survey):
    """TURBO: most fields of its packets are null, candids start anew with each export, filters have numbers only."""

    name = "TURBO"
    topics = r"^turbo_(?P<date>[0-9]{8})$"
    topic = "turbo_{night:%Y%m%d}"
    simulator = "kowalski.testing.simulator.turbo"
    position_error = 5.0
    histories = (History("prv_candidates", key=("jd", "fid", "candid")),)
    program_field = "candidate.programid"
    instrument = "TURBO"
    bands = {number: str(number) for number in FILTERS}
    streams = dict.fromkeys(PROGRAMS, "TURBO")
    stream_words = ("turbo",)
