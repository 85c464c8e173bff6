"""``near``: everything around positions, nearest first."""

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


class NearBody(Request):
    """Everything around positions, nearest first."""

    radec: Positions
    catalogs: Catalogs
    min_distance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_distance: Annotated[float | None, Field(gt=0, allow_inf_nan=False, description="Default: 1 arcmin.")] = None
    distance_units: AngularUnit = "rad"


class NearQuery(ArchiveQuery):
    """Documents around positions, nearest first."""

    gives_documents = True
    query_type: Literal["near"]
    query: NearBody
    kwargs: Annotated[PositionOptions, NoneAsEmpty] = PositionOptions()

    async def run(self, archive: Archive) -> Matches:
        """Give what is found, by catalog and by object."""
        body = self.query
        unit = RADIANS[body.distance_units]
        furthest = RADIANS["arcmin"] if body.max_distance is None else body.max_distance * unit
        cone = Cone(furthest, body.min_distance * unit, nearest_first=True)
        return await around.search(archive, body.catalogs, positions.parse(body.radec), cone, self.kwargs)
