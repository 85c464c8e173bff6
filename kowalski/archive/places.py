"""Where objects are: what their documents say of it, and the cells by which others find them."""

from __future__ import annotations

from pymongo import UpdateOne

from kowalski.archive.client import Document
from kowalski.science.coordinates import ALERT_ORDER, Floats, healpix_cells, healpix_field

CELL = healpix_field(ALERT_ORDER)


def places(ra: Floats, dec: Floats) -> list[Document]:
    """Build the ``coordinates`` of objects: a GeoJSON point as alerts have it, and the cell to find them by."""
    cells = healpix_cells(ra, dec, ALERT_ORDER).tolist()
    return [
        {"radec_geojson": {"type": "Point", "coordinates": [a - 180.0, d]}, CELL.split(".")[1]: cell}
        for a, d, cell in zip(ra.tolist(), dec.tolist(), cells, strict=True)
    ]


def set_place(object_id: str, coordinates: Document) -> UpdateOne:
    """Build the update that gives a place to an object that has none yet."""
    return UpdateOne({"_id": object_id, CELL: {"$exists": False}}, {"$set": {"coordinates": coordinates}})
