"""``cone_search``: everything within a radius around positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kowalski.api.models.common import Request
from kowalski.api.models.queries import AngularUnit, Catalogs, NoneAsEmpty, PositionOptions, Positions
from kowalski.api.queries import around, positions
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.queries.positions import RADIANS, Cone
from kowalski.api.results import Matches


class ObjectCoordinates(Request):
    """Positions and the radius around them."""

    radec: Positions
    cone_search_radius: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    cone_search_unit: AngularUnit


class ConeSearchBody(Request):
    """Everything within a radius around positions."""

    object_coordinates: ObjectCoordinates
    catalogs: Catalogs


class ConeSearchQuery(ArchiveQuery):
    """Documents within a radius around positions."""

    gives_documents = True
    query_type: Literal["cone_search"]
    query: ConeSearchBody
    kwargs: Annotated[PositionOptions, NoneAsEmpty] = PositionOptions()

    async def run(self, archive: Archive) -> Matches:
        """Give what is found, by catalog and by object."""
        wanted = self.query.object_coordinates
        cone = Cone(wanted.cone_search_radius * RADIANS[wanted.cone_search_unit])
        return await around.search(archive, self.query.catalogs, positions.parse(wanted.radec), cone, self.kwargs)
