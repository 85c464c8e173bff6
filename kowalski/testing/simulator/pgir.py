"""Simulated packets of Palomar Gattini-IR."""

from __future__ import annotations

from pathlib import Path

from kowalski.surveys.pgir import PGIR
from kowalski.testing.simulator.places import letters
from kowalski.testing.simulator.plain import PlainObject
from kowalski.testing.simulator.sources import G, R

SCHEMA = Path(__file__).with_name("pgir_schema.json")


class Object(PlainObject):
    """One object of PGIR."""

    survey = PGIR()
    schema = SCHEMA
    fids = {G: None, R: None}
    brighter = 7.5
    side = 61

    def named(self, index: int, seed: int, year: int) -> str:
        """See `PlainObject.named`."""
        return f"PGIR{year % 100:02d}{letters(index, seed, 6)}"
