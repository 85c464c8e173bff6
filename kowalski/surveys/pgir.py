"""Palomar Gattini-IR (De et al. 2020, PASP 132, 025001): one band, J; alert schema 0.1."""

from __future__ import annotations

from kowalski.surveys.base import History, Survey


class PGIR(Survey):
    """PGIR: packets have neither a filter nor a program id, ``isdiffpos`` is text, stamps are bare bytes."""

    name = "PGIR"
    topics = r"^pgir_(?P<date>[0-9]{8})$"
    topic = "pgir_{night:%Y%m%d}"
    simulator = "kowalski.testing.simulator.pgir"
    position_error = 5.0
    histories = (History("prv_candidates", key=("jd", "stackquadid", "subid", "candid"), days=1000.0),)
    stamp_orientation = ("fliplr", "rot90", "rot90", "rot90")
    instrument = "PGIR"
    bands = {None: "cspjs"}
    streams = {0: "PGIR"}
    stream_words = ("pgir",)
