"""An archive of as many alerts as one likes: clones of a few, each with a candid and a place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymongo import WriteConcern
from pymongo.database import Database

from benchmarks import indexes as made
from benchmarks import workload
from kowalski.archive import indexes
from kowalski.config import Settings
from kowalski.science import coordinates
from kowalski.surveys import get

BASE = 2000
"""Alerts that are cloned."""
CHUNK = 200
FIRST = 3_000_000_000_000_000_000
"""The first candid."""


def seed(data: Database[dict[str, Any]], settings: Settings, cache: Path, n: int, rows: int) -> list[list[float]]:
    """Fill ``ZTF_alerts`` with ``n`` alerts and the catalogs with ``rows`` sources; gives where the alerts are."""
    survey = get("ZTF")
    base = made.documents(workload.make_alerts(survey, cache, min(n, BASE)))
    indexes.ensure(data, settings, survey)
    alerts = data[survey.alerts].with_options(write_concern=WriteConcern(w=1))
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-0.5, 0.99, n)))
    for chunk in _clones(base, ra, dec):
        alerts.insert_many(chunk, ordered=False)
    places = [[float(a), float(d)] for a, d in zip(ra, dec, strict=True)]
    around = [{"ra": a, "dec": d} for a, d in places[:5000]]
    workload.load_catalogs(data, around, rows, cells=True)
    return places


def _clones(base: list[dict[str, Any]], ra: Any, dec: Any) -> Iterator[list[dict[str, Any]]]:
    for begin in range(0, len(ra), CHUNK):
        part = slice(begin, min(begin + CHUNK, len(ra)))
        found = coordinates.documents(ra[part], dec[part])
        yield [
            {
                **base[number % len(base)],
                "_id": FIRST + number,
                "candid": FIRST + number,
                "objectId": f"ZTF23{number // 3:07d}",
                "candidate": {**base[number % len(base)]["candidate"], "ra": ra[number], "dec": dec[number]},
                "coordinates": place,
            }
            for number, place in enumerate(found, begin)
        ]
