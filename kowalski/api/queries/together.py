"""Around many positions by one command: how ``cone_search``, ``near`` and matches of a table take thousands at once.

A catalog that carries HEALPix cells is asked for the cells around all positions, which costs it a thirtieth of one
search per position. In another one MongoDB searches group by group (`GROUP`): as dear as one by one, because it works
out each circle anew, but in one command. Which document belongs to which position is found out here, on arrays.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np

from kowalski.api import extjson
from kowalski.api.models.queries import CatalogPart, PositionOptions
from kowalski.api.queries import projections
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import FIELD, Cone, Position
from kowalski.api.reading import RawCursor
from kowalski.science import pairs
from kowalski.science.coordinates import (
    Floats,
    best_order,
    healpix_cells,
    healpix_cones,
    healpix_field,
    healpix_neighbourhood,
)

POSITIONS = 5000
"""Positions of one command: some 45,000 cells, a megabyte."""
GROUP = 8
"""Circles that MongoDB looks for together: with more it compares every source with every circle."""
STAGES = 900
"""Stages of a pipeline; MongoDB takes 1000."""
RADIUS = 600.0
"""Arcsec up to which many positions are searched at once; around a larger one there is too much to hold."""
HELD = 32 * 1024 * 1024
"""Bytes of documents that are held at a time."""
BATCH = 100_000
"""Rows that MongoDB is asked for at a time: as many as fit into its reply."""
FEW_PAIRS = 2000
"""Pairs of a position and a source up to which all are compared, which is faster than to work out cells."""
MARGIN = 1.0 + 1e-6
"""Widens MongoDB's own circle a little: the exact cut is made on the separation."""
MAX_ORDER = 29
"""The finest order whose cells have numbers of 64 bits."""
AT = "_position_of_row"

Stage = dict[str, Any]

HEAD = struct.Struct("<i3sd3sd3si3s")
"""A row is ``{x: double, y: double, g: int, d: document}``: where it lies, its group, and what the user gets."""
NAMES: tuple[bytes, ...] = (b"\x01x\0", b"\x01y\0", b"\x10g\0", b"\x03d\0")


def is_able(part: CatalogPart, cone: Cone, options: PositionOptions) -> bool:
    """Whether a search can be made for many positions at once."""
    natural = any(path == "$natural" for path, _ in options.sort or ())
    return cone.arcsec <= RADIUS and not options.hint and not natural and projections.is_translatable(part.projection)


async def cell_order(archive: Archive, catalog: str, cone: Cone, options: PositionOptions) -> int | None:
    """Choose the HEALPix order to search a catalog by; None to search it by geometry."""
    collection = await archive.collection(catalog)
    limits: dict[str, Any] = {"max_time_ms": archive.time(options), "comment": archive.user.name}
    return await archive.services.cells.order(collection, cone.arcsec, **limits)


@dataclass(frozen=True, slots=True)
class Together:
    """The search of one catalog around many positions.

    Attributes
    ----------
    order
        The HEALPix order to search by; None to search by geometry.
    """

    catalog: str
    part: CatalogPart
    cone: Cone
    options: PositionOptions
    order: int | None

    def pipeline(self, positions: Sequence[Position]) -> list[Stage]:
        """Build the pipeline that gives a row for each document that lies around any of the positions."""
        size = self._group_size(len(positions))
        groups = [positions[start : start + size] for start in range(0, len(positions), size)]
        first, *others = ([self._match(group), _place(number)] for number, group in enumerate(groups))
        unions: list[Stage] = [{"$unionWith": {"coll": self.catalog, "pipeline": other}} for other in others]
        sort: list[Stage] = [{"$sort": dict(self.options.sort)}] if self.options.sort else []
        whole = {"$unsetField": {"field": AT, "input": "$$ROOT"}}
        row: Stage = {"$replaceWith": {"x": f"${AT}.x", "y": f"${AT}.y", "g": f"${AT}.g", "d": whole}}
        return [*first, *unions, *sort, *projections.stages(self.part.projection, keep=AT), row]

    def assign(self, positions: Sequence[Position], rows: Sequence[bytes]) -> list[list[bytes]]:
        """Find the documents around each position, in BSON, among the rows that the pipeline for them gave.

        They are in the order that was asked for, else the nearest come first; skip and limit are applied.
        """
        near, _ = self.pairs(positions, rows)
        left, right = near
        if self.options.sort:
            ordered = np.lexsort((right, left))
            left, right = left[ordered], right[ordered]
        found: list[list[bytes]] = [[] for _ in positions]
        for position, row in zip(left.tolist(), right.tolist(), strict=True):
            found[position].append(document(rows[row]))
        first = self.options.skip or 0
        last = first + self.options.limit if self.options.limit else None
        return [documents[first:last] for documents in found]

    def pairs(self, positions: Sequence[Position], rows: Sequence[bytes]) -> tuple[pairs.Pairs, Floats]:
        """Find which rows of those that the pipeline gave lie around which positions, and how far away in arcsec.

        They are in the order of the positions, for each of which the nearest come first.
        """
        heads = [HEAD.unpack_from(row.ljust(HEAD.size)) for row in rows]
        placed = np.array([index for index, head in enumerate(heads) if head[1::2] == NAMES], np.intp)
        ra = np.array([heads[index][2] for index in placed], float) + 180.0  # of the others, no position is known
        dec = np.array([heads[index][4] for index in placed], float)
        group = np.array([heads[index][6] for index in placed], np.intp)
        there_ra, there_dec = _arrays(positions)
        candidates = _candidates((there_ra, there_dec), (ra, dec), self.cone.arcsec)
        near, arcsec = pairs.within(candidates, self.cone.arcsec, (there_ra, there_dec), (ra, dec))
        # A document that lies around positions of several groups comes once for each group.
        own = near.left // self._group_size(len(positions)) == group[near.right]
        kept = np.flatnonzero(own & (arcsec >= self.cone.inner_arcsec))
        return pairs.Pairs(near.left[kept], placed[near.right[kept]]), arcsec[kept]

    def _group_size(self, count: int) -> int:
        """Positions of one group: all if cells are asked for, else few, but as many as it takes to fit a pipeline."""
        return count if self.order is not None else max(GROUP, math.ceil(count / STAGES))

    def _match(self, positions: Sequence[Position]) -> Stage:
        where = _circles(self.cone, positions) if self.order is None else _cells(self.cone, positions, self.order)
        return {"$match": {"$and": [where, self.part.filter]} if self.part.filter else where}


def document(row: bytes) -> bytes:
    """Take what the user gets, in BSON, out of a row."""
    return row[HEAD.size : -1]


async def read(archive: Archive, cursor: RawCursor) -> list[bytes] | None:
    """Read the rows of a command; None if they are too large to be held."""
    batches, size = [], 0
    async with aclosing(archive.batches(cursor)) as found:
        async for batch in found:
            size += len(batch)
            if size > HELD:
                return None
            batches.append(batch)
    return [row for batch in batches for row in extjson.split(batch)]


def _circles(cone: Cone, positions: Sequence[Position]) -> Stage:
    radius = cone.radius * MARGIN
    return {"$or": [{FIELD: {"$geoWithin": {"$centerSphere": [position.point, radius]}}} for position in positions]}


def _cells(cone: Cone, positions: Sequence[Position], order: int) -> Stage:
    around = healpix_cones(*_arrays(positions), cone.arcsec, order)
    return {healpix_field(order): {"$in": np.unique(around[around >= 0]).tolist()}}


def _place(group: int) -> Stage:
    x, y = ({"$toDouble": {"$arrayElemAt": [f"${FIELD}.coordinates", axis]}} for axis in (0, 1))
    return {"$set": {AT: {"x": x, "y": y, "g": {"$literal": group}}}}


def _arrays(positions: Sequence[Position]) -> tuple[Floats, Floats]:
    return np.array([each.ra for each in positions], float), np.array([each.dec for each in positions], float)


def _candidates(there: tuple[Floats, Floats], found: tuple[Floats, Floats], radius: float) -> pairs.Pairs:
    if len(there[0]) * len(found[0]) <= FEW_PAIRS:
        return pairs.every(len(there[0]), len(found[0]))
    order = best_order(radius, list(range(MAX_ORDER + 1)))
    assert order is not None  # the radius is small
    return pairs.by_cell(healpix_neighbourhood(*there, order), healpix_cells(*found, order))
