"""``cone_search``: everything within a radius around positions."""

from __future__ import annotations

from kowalski.api.models.queries import ConeSearchQuery
from kowalski.api.queries import around, positions
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import FIELD, RADIANS, Position
from kowalski.api.results import Matches


def run(query: ConeSearchQuery, archive: Archive) -> Matches:
    """Give what is found, by catalog and by object."""
    wanted = query.query.object_coordinates
    radius = wanted.cone_search_radius * RADIANS[wanted.cone_search_unit]

    def within(position: Position) -> dict[str, object]:
        return {FIELD: {"$geoWithin": {"$centerSphere": [position.point, radius]}}}

    return around.search(archive, query.query.catalogs, positions.parse(wanted.radec), within, query.kwargs)
