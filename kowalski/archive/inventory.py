"""Which catalogs the data database holds, how they are indexed, and what the configuration wants of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from kowalski.archive import indexes
from kowalski.archive.catalogs import radius_arcsec
from kowalski.archive.client import Document
from kowalski.config.settings import CrossMatch
from kowalski.science.coordinates import best_order

STANDARD_ORDERS = (16, 14, 8)
"""HEALPix orders that catalogs carry: for radii up to 2, 8 and 512 arcsec."""

Declared = Mapping[str, Mapping[str, CrossMatch]]
"""By survey and catalog, as ``database.xmatch`` has it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One catalog.

    Attributes
    ----------
    rows
        Its sources, as MongoDB's own count tells; None if there is no such collection.
    indexes
        Names of its indexes, without that on ``_id``.
    orders
        HEALPix orders of which it carries cells.
    has_sphere
        Whether its positions have a 2dsphere index.
    radii
        By survey: the radius in arcsec within which alerts are matched with it.
    """

    name: str
    rows: int | None
    indexes: tuple[str, ...] = ()
    orders: tuple[int, ...] = ()
    has_sphere: bool = False
    radii: Mapping[str, float] = field(default_factory=dict)

    @property
    def problem(self) -> str | None:
        """What keeps alerts from being matched with it, or makes that dear; None if all is well."""
        if self.rows is None:
            return "no such collection"
        unserved = [radius for radius in self.radii.values() if best_order(radius, list(self.orders)) is None]
        if not unserved:
            return None
        if self.has_sphere:
            return f"carries no cells for {max(unserved):g} arcsec: matched by geometry, ten times as dear"
        return f"carries no cells for {max(unserved):g} arcsec and its positions have no index: not matched"


def take(data: Database[Document], declared: Declared, besides: Iterable[str]) -> list[Entry]:
    """List all catalogs that exist or are configured, by name.

    Parameters
    ----------
    declared
        Whether and how alerts are matched with catalogs.
    besides
        Collections that are no catalogs: those of surveys.
    """
    existing = set(
        data.list_collection_names(filter={"type": "collection", "name": {"$not": {"$regex": "^system[.]"}}})
    )
    existing -= set(besides)
    configured = {name for catalogs in declared.values() for name in catalogs}
    return [_entry(data, name, declared, present=name in existing) for name in sorted(existing | configured)]


def wanted_orders(declared: Declared, catalog: str) -> tuple[int, ...]:
    """Choose the standard orders that the configured radii of ``catalog`` need; none for radii beyond 512 arcsec."""
    best = {best_order(radius, list(STANDARD_ORDERS)) for radius in _radii(declared, catalog).values()}
    return tuple(sorted((order for order in best if order is not None), reverse=True))


def _radii(declared: Declared, catalog: str) -> dict[str, float]:
    return {survey: radius_arcsec(found[catalog]) for survey, found in declared.items() if catalog in found}


def _entry(data: Database[Document], name: str, declared: Declared, *, present: bool) -> Entry:
    radii = _radii(declared, name)
    if not present:
        return Entry(name, None, radii=radii)
    known: dict[str, Any] = dict(data[name].index_information())
    return Entry(
        name,
        rows=data[name].estimated_document_count(),
        indexes=tuple(sorted(known.keys() - {"_id_"})),
        orders=tuple(indexes.healpix_orders(data, name)),
        has_sphere=indexes.has_sphere(data, name),
        radii=radii,
    )
