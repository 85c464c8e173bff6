"""One catalog matched with another: pairs of sources that lie within a radius of each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from pymongo.database import Database

from kowalski.archive.catalogs import Catalogs
from kowalski.archive.client import Document
from kowalski.config.settings import CrossMatch
from kowalski.science.coordinates import separation

CHUNK = 2000
"""Positions of one search."""
PLACE = "coordinates.radec_geojson.coordinates"

Pair = dict[str, Any]


class NoSuchCatalogError(Exception):
    """A catalog can't be matched; the text says why."""


def match(data: Database[Document], one: str, other: str, radius: float) -> Iterator[tuple[int, list[Pair]]]:
    """Find the pairs of sources of two catalogs within ``radius`` arcsec, chunk by chunk of the first.

    Yields
    ------
    tuple
        How many sources of the first catalog were looked at, and the pairs found for them: ids, positions in degrees
        and separation in arcsec.

    Raises
    ------
    NoSuchCatalogError
        If one of them is not there, or the second has no index of positions.
    """
    declared = CrossMatch(cone_search_radius=radius, projection={"_id": 1, "coordinates.radec_geojson": 1})
    catalogs = Catalogs(data, {other: declared})
    catalogs.refresh()
    missing = catalogs.missing | ({} if one in data.list_collection_names() else {one: "no such collection"})
    if missing:
        raise NoSuchCatalogError("; ".join(f"{name}: {reason}" for name, reason in missing.items()))
    sources = data[one].find({PLACE: {"$exists": True}}, {PLACE: 1}, batch_size=CHUNK)
    while chunk := list(islice(sources, CHUNK)):
        places = np.array([source["coordinates"]["radec_geojson"]["coordinates"] for source in chunk], float)
        ra, dec = places[:, 0] + 180.0, places[:, 1]
        found = catalogs.match(ra, dec)[other]
        yield (
            len(chunk),
            [
                _pair(source["_id"], float(ra[i]), float(dec[i]), each)
                for i, source in enumerate(chunk)
                for each in found[i]
            ],
        )


def _pair(_id: Any, ra: float, dec: float, other: Document) -> Pair:
    longitude, latitude = other["coordinates"]["radec_geojson"]["coordinates"]
    arcsec = float(separation(ra, dec, longitude + 180.0, latitude))
    return {
        "id": str(_id), "ra": ra, "dec": dec, "match_id": str(other["_id"]), "match_ra": longitude + 180.0,
        "match_dec": latitude, "separation": arcsec,
    }  # fmt: skip
