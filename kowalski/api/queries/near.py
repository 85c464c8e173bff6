"""``near``: everything around positions, nearest first."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kowalski.api.models.queries import NearQuery
from kowalski.api.queries import around, positions
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import FIELD, RADIANS, Position

EARTH_METRES = 6_378_100.0
"""The radius with which MongoDB turns metres, which it wants beside a GeoJSON point, into angles."""


def run(query: NearQuery, archive: Archive) -> AsyncIterator[bytes]:
    """Give what is found as pieces of ``{catalog: {object: [documents]}}``."""
    body = query.query
    unit = RADIANS[body.distance_units]
    furthest = RADIANS["arcmin"] if body.max_distance is None else body.max_distance * unit
    nearest = body.min_distance * unit

    def around_it(position: Position) -> dict[str, object]:
        return {
            FIELD: {
                "$nearSphere": {
                    "$geometry": {"type": "Point", "coordinates": position.point},
                    "$minDistance": nearest * EARTH_METRES,
                    "$maxDistance": furthest * EARTH_METRES,
                }
            }
        }

    return around.search(archive, body.catalogs, positions.parse(body.radec), around_it, query.kwargs)
