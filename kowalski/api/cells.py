"""Which HEALPix cells catalogs carry, and which of them serve a search."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from kowalski.archive import indexes
from kowalski.archive.client import Document
from kowalski.science.coordinates import WIDEST_RADIUS, best_order

SMALL_CELLS = 14
"""From this order on (13 arcsec) the nine cells hold few sources too many, however small the circle is."""
ROOMY = 8.0
"""How many times wider than the circle larger cells may be before geometry is cheaper."""
NOT_FOR_VIEWS = 166
"""MongoDB's error for what views don't have."""
REMEMBERED = 1.0
"""Seconds for which it holds what was found: asking costs as much as a search, and many come at a time."""
MOST = 1000
"""Answers that are remembered."""


class Cells:
    """Chooses the HEALPix order to search a catalog by."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, float], tuple[float, int | None]] = {}

    async def order(self, collection: AsyncCollection[Document], radius: float, **limits: Any) -> int | None:
        """Choose the order for a radius in arcsec; None to search by geometry.

        Parameters
        ----------
        limits
            Arguments of the commands that find it out.
        """
        key, now = (collection.name, radius), time.monotonic()
        expires, order = self._known.get(key, (now, None))
        if now >= expires:
            order = await _order(collection, radius, **limits)
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = (now + REMEMBERED, order)
        return order


async def _order(collection: AsyncCollection[Document], radius: float, **limits: Any) -> int | None:
    try:
        known = await collection.index_information()
    except OperationFailure as error:
        if error.code != NOT_FOR_VIEWS:
            raise
        return None
    order = fitting_order(radius, indexes.cell_orders(known))
    if order is None:
        return None
    return None if await collection.find_one(indexes.without_cell(order), {"_id": 1}, **limits) else order


def fitting_order(radius: float, orders: Iterable[int]) -> int | None:
    """Choose among the orders that a catalog carries, by radius in arcsec."""
    order = best_order(radius, list(orders))
    if order is None or order >= SMALL_CELLS or radius * ROOMY >= WIDEST_RADIUS * 2.0**-order:
        return order
    return None
