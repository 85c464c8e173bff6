"""Indexes of a catalog, built when all its sources are there: that takes a fraction of building them row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pymongo.database import Database

from kowalski.archive.client import Document
from kowalski.science.coordinates import healpix_field

Keys = Sequence[tuple[str, int | str]]


def build(
    data: Database[Document],
    catalog: str,
    orders: Sequence[int],
    declared: Mapping[str, Keys],
    *,
    has_positions: bool,
    report: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Build what is not there: 2dsphere, one on each HEALPix order, and those that are declared; give all names."""
    wanted: dict[str, Keys] = {}
    if has_positions:
        wanted["radec"] = [("coordinates.radec_geojson", "2dsphere"), ("_id", 1)]
        wanted |= {f"hpx_{order}": [(healpix_field(order), 1)] for order in orders}
    wanted |= declared
    there = [tuple(index["key"]) for index in data[catalog].index_information().values()]
    for name, keys in wanted.items():
        if tuple(keys) not in there:
            report(name)
            data[catalog].create_index(list(keys), name=name)
    return list(wanted)
