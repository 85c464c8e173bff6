"""Catalogs of the data database, and which of their sources lie near given positions: one query per catalog.

A catalog that carries HEALPix cells (fields ``coordinates.hpx_<order>`` with an index) is asked for the cells that
the cones touch, which costs a tenth of a geometric search; one without is searched by ``$geoWithin``.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ExecutionTimeout

from kowalski.archive import indexes
from kowalski.archive.client import Document
from kowalski.config.settings import CrossMatch, Latest
from kowalski.science import pairs
from kowalski.science.coordinates import Cells, Floats, best_order, healpix_cones, healpix_field, separation
from kowalski.science.galaxies import ELLIPSES, NEARBY, DistanceRule

Matches = list[list[Document]]
"""For each position the matching documents, nearest first."""

Cones = Callable[[float, int], Cells]
"""Gives the cells around the positions, by radius in arcsec and order: `kowalski.science.coordinates.healpix_cones`."""

ARCSEC = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0, "rad": math.degrees(3600.0)}
MARGIN = 1.0 + 1e-6
"""Widens MongoDB's own cone a little: the exact cut is made on the separation."""
AT_ONCE = 100_000
"""Sources that MongoDB is asked for at a time: as many as fit into its reply."""
POSITION, CELL = "_position", "_cell"
SLOW_SECONDS = 1.0
"""After an answer that took longer it is looked whether the catalog still has its index."""
REST = timedelta(minutes=10)
"""How long a catalog that answers too slowly is left out."""

log = logging.getLogger(__name__)


def radius_arcsec(declared: CrossMatch) -> float:
    """Radius of a declared cone, arcsec."""
    return declared.cone_search_radius * ARCSEC[declared.cone_search_unit]


@dataclass(frozen=True, slots=True)
class Catalog:
    """One catalog and how alerts are matched with it.

    Attributes
    ----------
    order
        The HEALPix order to search by; None to search geometrically.
    carried
        All orders of which the catalog carries cells.
    """

    collection: Collection[Document]
    declared: CrossMatch
    order: int | None
    carried: tuple[int, ...] = ()

    @property
    def radius(self) -> float:
        """Radius of the cone, arcsec."""
        return radius_arcsec(self.declared)

    def match(self, ra: Floats, dec: Floats, cones: Cones, max_time_ms: int | None = None) -> Matches:
        """Find the sources near each position.

        Raises
        ------
        pymongo.errors.ExecutionTimeout
            If MongoDB takes longer than ``max_time_ms``.
        """
        if not ra.size:
            return []
        if self.order is None:
            circles = [_cone(a, d, self.radius) for a, d in zip(ra, dec, strict=True)]
            documents = self._query({"$or": circles}, None, max_time_ms)
            candidates = pairs.every(ra.size, len(documents))
        else:
            around = cones(self.radius, self.order)
            cells = np.unique(around[around >= 0]).tolist()
            field = healpix_field(self.order)
            documents = self._query({field: {"$in": cells}}, f"${field}", max_time_ms)
            found = np.array([document.pop(CELL) for document in documents], np.int64)
            candidates = pairs.by_cell(around, found)
        positions = np.array([document.pop(POSITION) for document in documents], float).reshape(-1, 2)
        near, arcsec = pairs.within(candidates, self.radius, (ra, dec), (positions[:, 0] + 180.0, positions[:, 1]))
        matches: Matches = [[] for _ in range(ra.size)]
        rule = self._rule()
        for left, right, distance in zip(near.left.tolist(), near.right.tolist(), arcsec.tolist(), strict=True):
            document = documents[right]
            matched = document if rule is None else rule.match(document, distance)
            if matched is not None:
                matches[left].append(matched)
        if rule is not None:
            _add_nearby(matches, rule, ra, dec)
        latest = self.declared.latest
        if latest is None:
            return matches
        return [sorted(found, key=lambda one: _time(one, latest.time))[-1:] for found in matches]

    def _query(self, where: Document, cell: str | None, max_time_ms: int | None) -> list[Document]:
        extra: Document = {POSITION: "$coordinates.radec_geojson.coordinates"}
        if cell is not None:
            extra[CELL] = cell
        # By $and: an operator's filter may use the same operators.
        stages: list[Document] = [{"$match": {"$and": [where, self.declared.filter]}}, {"$set": extra}]
        shown = self.declared.projection
        inverse = not shown or excludes(shown)
        if shown:
            stages.append({"$project": shown if inverse else {**shown, **dict.fromkeys(extra, 1)}})
        unnamed = [name for order in self.carried if (name := healpix_field(order)) not in shown]
        if unnamed and (inverse or "coordinates" in shown):
            stages.append({"$unset": unnamed})
        if self.declared.latest is not None:
            stages += _newest_only(self.declared.latest)
        limit: Document = {} if max_time_ms is None else {"maxTimeMS": max_time_ms}
        return self.collection.aggregate(stages, batchSize=AT_ONCE, **limit).to_list()

    def _rule(self) -> DistanceRule | None:
        declared = self.declared
        if not declared.use_distance:
            return None
        return DistanceRule(
            field=declared.distance_value or "",
            method="mpc" if (declared.distance_method or "").lower() == "mpc" else "redshift",
            kpc=declared.cm_at_distance or 0.0,
            near_arcsec=declared.cm_low_distance or 0.0,
        )


def _newest_only(latest: Latest) -> list[Document]:
    """Build the stages that leave the newest document of each object, so that few travel."""
    newest = {"$top": {"sortBy": {latest.time: -1}, "output": "$$ROOT"}}
    return [{"$group": {"_id": f"${latest.object}", "found": newest}}, {"$replaceWith": "$found"}]


def _time(document: Document, name: str) -> float:
    """Read a time that may lie in a nested document; one without it is older than all others."""
    value: Any = document
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, float | int) else -math.inf


def excludes(projection: Document) -> bool:
    """Whether a projection names what is left out; all that it names counts, ``_id`` only if it is alone."""
    named = [value for name, value in projection.items() if name != "_id"] or list(projection.values())
    if any(name.startswith("$") for name in projection):  # an expression, the value of a field that is shown
        return False
    return all(excludes(value) if isinstance(value, dict) else value in (0, False) for value in named)


def _cone(ra: float, dec: float, radius: float) -> Document:
    circle = [[ra - 180.0, dec], math.radians(radius * MARGIN / 3600.0)]
    return {"coordinates.radec_geojson": {"$geoWithin": {"$centerSphere": circle}}}


def _add_nearby(matches: Matches, rule: DistanceRule, ra: Floats, dec: Floats) -> None:
    """Add M31 and M33 to the positions that lie in their ellipses, in order of separation."""
    for galaxy in NEARBY:
        ellipse = ELLIPSES[galaxy["_id"]]
        for index in np.flatnonzero(ellipse.holds(ra, dec)):
            arcsec = float(separation(ra[index], dec[index], ellipse.ra, ellipse.dec))
            found = matches[index]
            place = sum(document["coordinates"]["distance_arcsec"] <= arcsec for document in found)
            found.insert(place, rule.measured(galaxy, arcsec))


class Catalogs:
    """The catalogs with which a survey's alerts are matched.

    Whether they exist, and how they are indexed, is looked up again every ``refresh`` seconds, so that a catalog
    that is ingested while the broker runs is used from then on.

    Parameters
    ----------
    max_time_ms
        How long a catalog may take for one search; one that twice in a row takes longer is left out for a time. None:
        as long as it likes.
    """

    def __init__(
        self,
        data: Database[Document],
        declared: Mapping[str, CrossMatch],
        refresh: float = 60.0,
        max_time_ms: int | None = None,
    ) -> None:
        self._data = data
        self.declared = declared
        self._refresh = refresh
        self._max_time_ms = max_time_ms
        self._resting: dict[str, datetime] = {}
        """Catalogs that took too long, and until when they are left out."""
        self._looked_up = -math.inf
        self._present: dict[str, Catalog] = {}
        self.missing: dict[str, str] = {}
        """Catalogs that can't be used: name -> reason."""

    def match(self, ra: Floats, dec: Floats) -> dict[str, Matches]:
        """Match positions with every catalog; each position has a list for every usable catalog, empty if no match."""
        self.refresh()
        return self._matched(self._present, ra, dec)

    @property
    def any_grow(self) -> bool:
        """Whether known objects are matched again with any of them."""
        return any(declared.refresh for declared in self.declared.values())

    def match_again(self, ra: Floats, dec: Floats) -> dict[str, Matches]:
        """Match positions of known objects with those catalogs that grow, and are declared so."""
        self.refresh()
        growing = {name: catalog for name, catalog in self._present.items() if catalog.declared.refresh}
        return self._matched(growing, ra, dec)

    def _matched(self, catalogs: Mapping[str, Catalog], ra: Floats, dec: Floats) -> dict[str, Matches]:
        """Match positions with catalogs; those with the same radius and order share the cells that are looked into."""
        cones = functools.cache(functools.partial(healpix_cones, ra, dec))
        found = {name: self._within_limits(name, catalog, ra, dec, cones) for name, catalog in catalogs.items()}
        return {name: matches for name, matches in found.items() if matches is not None}

    def _within_limits(self, name: str, catalog: Catalog, ra: Floats, dec: Floats, cones: Cones) -> Matches | None:
        """Match with one catalog; None if it has lost its index or takes too long, for which `missing` names it then.

        It is asked twice, because a server that stood still for a moment is no fault of the catalog.
        """
        for _ in range(2):
            start = time.monotonic()
            try:
                matches = catalog.match(ra, dec, cones, self._max_time_ms)
            except ExecutionTimeout:
                self._look_up()
                if name not in self._present:
                    return None
                continue
            if time.monotonic() - start > SLOW_SECONDS:
                self._looked_up = -math.inf
            return matches
        self._resting[name] = datetime.now(UTC) + REST
        self._look_up()
        log.warning("catalog %s: %s", name, self.missing.get(name))
        return None

    def refresh(self, age: float | None = None) -> None:
        """Look up which catalogs are there, if that is due: so that `missing` tells it before the first match, too.

        Parameters
        ----------
        age
            How many seconds old what is known may be, if not as old as usual.
        """
        if time.monotonic() - self._looked_up > (self._refresh if age is None else age):
            self._look_up()

    def _look_up(self) -> None:
        existing = set(self._data.list_collection_names(filter={"type": "collection"}))  # a view has no indexes
        present: dict[str, Catalog] = {}
        missing: dict[str, str] = {}
        for name, declared in self.declared.items():
            if name not in existing:
                missing[name] = "no such collection"
                continue
            rests_until = self._resting.get(name)
            if rests_until is not None and datetime.now(UTC) < rests_until:
                limit = f"a search takes longer than {self._max_time_ms} ms"
                missing[name] = f"{limit}; it is tried again at {rests_until:%H:%M} UTC"
                continue
            carried = indexes.healpix_orders(self._data, name)
            order = self._order(name, radius_arcsec(declared), carried)
            if order is None and not indexes.has_sphere(self._data, name):
                missing[name] = "its positions have no index"
                continue
            present[name] = Catalog(self._data[name], declared, order, tuple(carried))
        self._present, self.missing, self._looked_up = present, missing, time.monotonic()

    def _order(self, name: str, radius: float, carried: list[int]) -> int | None:
        """Choose the order to search by: one of which every source has its cell, unless there is nothing else."""
        order = best_order(radius, carried)
        if order is None or not indexes.has_sphere(self._data, name):
            return order
        return best_order(radius, [each for each in carried if self._is_whole(name, each)])

    def _is_whole(self, name: str, order: int) -> bool:
        return self._data[name].find_one(indexes.without_cell(order), {"_id": 1}) is None
