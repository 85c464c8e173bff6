"""Simulated packets of TURBO, with as little in them as in real ones."""

from __future__ import annotations

from pathlib import Path

from kowalski.surveys.turbo import TURBO
from kowalski.testing.simulator.plain import PlainObject
from kowalski.testing.simulator.sources import G, R

SCHEMA = Path(__file__).with_name("turbo_schema.json")


class Object(PlainObject):
    """One object of TURBO; all that is said of it is where, when and how bright."""

    survey = TURBO()
    schema = SCHEMA
    fids = {G: 1, R: 2}
    history = "none"
    known = frozenset({"jd", "fid", "programid", "candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf"})

    def named(self, index: int, seed: int, year: int) -> str:
        """See `PlainObject.named`."""
        return f"None.{seed}{index:06d}"

    def first_candid(self, jd: float) -> int:
        """See `PlainObject.first_candid`: each export counts from 0."""
        return 0
