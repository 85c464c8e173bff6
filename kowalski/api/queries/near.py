"""``near``: everything around positions, nearest first."""

from __future__ import annotations

from kowalski.api.models.queries import NearQuery
from kowalski.api.queries import around, positions
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import FIELD, RADIANS, Position
from kowalski.api.results import Matches


def run(query: NearQuery, archive: Archive) -> Matches:
    """Give what is found, by catalog and by object."""
    body = query.query
    unit = RADIANS[body.distance_units]
    furthest = RADIANS["arcmin"] if body.max_distance is None else body.max_distance * unit
    nearest = body.min_distance * unit

    def around_it(position: Position) -> dict[str, object]:
        # A bare pair of coordinates instead of a GeoJSON point: then MongoDB takes distances in radians.
        return {FIELD: {"$nearSphere": position.point, "$minDistance": nearest, "$maxDistance": furthest}}

    return around.search(archive, body.catalogs, positions.parse(body.radec), around_it, query.kwargs)
