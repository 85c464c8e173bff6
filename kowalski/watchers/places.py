"""Collections of things with a position: their indexes, and the ``coordinates`` of each document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymongo import IndexModel
from pymongo.collection import Collection

from kowalski.archive import indexes
from kowalski.archive.client import Document
from kowalski.archive.inventory import STANDARD_ORDERS
from kowalski.ingesters.cells import add_cells, cell_fields
from kowalski.science.coordinates import healpix_field, sexagesimal


def prepare(collection: Collection[Document], others: Sequence[IndexModel]) -> None:
    """Make the indexes of a collection; documents that lack cells, as in a restored dump, get them first."""
    collection.create_indexes(
        [IndexModel([("coordinates.radec_geojson", "2dsphere"), ("_id", -1)], name="radec__id"), *others]
    )
    cells = [IndexModel([(healpix_field(order), 1)], name=f"hpx_{order}") for order in STANDARD_ORDERS]
    if set(STANDARD_ORDERS) - set(indexes.healpix_orders(collection.database, collection.name)):
        add_cells(collection, STANDARD_ORDERS)
    collection.create_indexes(cells)


def coordinates(ra: Sequence[float], dec: Sequence[float], texts: Sequence[list[str] | None]) -> list[dict[str, Any]]:
    """Build the ``coordinates`` of documents.

    Parameters
    ----------
    ra, dec
        ICRS, deg; each in [0, 360] and [-90, 90].
    texts
        Right ascension and declination as they came, where they did; else they are written from the numbers.
    """
    return [
        {
            "radec_str": text or sexagesimal(a, d),
            "radec_geojson": {"type": "Point", "coordinates": [a - 180.0, d]},
            **cells,
        }
        for a, d, text, cells in zip(
            ra, dec, texts, cell_fields(np.mod(ra, 360.0).tolist(), dec, STANDARD_ORDERS), strict=True
        )
    ]


def is_place(ra: Any, dec: Any) -> bool:
    """Whether two values are a position in degrees."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (ra, dec))
    return numbers and 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0
