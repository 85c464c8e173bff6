"""Indexes of the archive: those by which users search come from the configuration, the rest from the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

from kowalski.archive import figures, names
from kowalski.archive.client import Document
from kowalski.archive.places import CELL
from kowalski.config import Settings
from kowalski.science.coordinates import healpix_field
from kowalski.surveys.base import Survey

NAMESPACE_EXISTS = 48


def ensure(data: Database[Document], settings: Settings, survey: Survey) -> None:
    """Create a survey's collections and their configured indexes, if they are not there; safe to repeat and to race."""
    for name in (survey.alerts, survey.objects):
        _create(data, name)
    if settings.database.build_indexes:
        data[survey.objects].create_index([(CELL, ASCENDING)], name="cell")
        for name in (survey.alerts, survey.objects):
            models = [
                IndexModel([(field, kind) for field, kind in index.fields], name=index.name, unique=index.unique)
                for index in settings.database.indexes.get(name, [])
            ]
            if models:
                data[name].create_indexes(models)


def ensure_system(system: Database[Document]) -> None:
    """Create the indexes of dead letters and figures."""
    system[names.DEAD_LETTERS].create_index([("survey", ASCENDING), ("at", ASCENDING)])
    system[names.FIGURES].create_indexes(figures.INDEXES)


def healpix_orders(data: Database[Document], catalog: str) -> list[int]:
    """Find the HEALPix orders by which a catalog is indexed; this is how a catalog declares them."""
    return cell_orders(_information(data, catalog))


def cell_orders(information: Mapping[str, Any]) -> list[int]:
    """Find the HEALPix orders among what MongoDB tells of a collection's indexes."""
    prefix = "coordinates.hpx_"
    first_fields = [index["key"][0][0] for index in information.values()]
    return sorted(int(field.removeprefix(prefix)) for field in first_fields if field.startswith(prefix))


def without_cell(order: int) -> Document:
    """Build the condition that finds sources with a position but no HEALPix cell of ``order``.

    An index alone does not say that every source has its cell: it may have been made for those still to come.
    """
    return {healpix_field(order): None, "coordinates.radec_geojson": {"$exists": True}}


def has_sphere(data: Database[Document], catalog: str) -> bool:
    """Whether a catalog's positions have a 2dsphere index."""
    return any(
        index["key"][0] == ("coordinates.radec_geojson", "2dsphere") for index in _information(data, catalog).values()
    )


def _information(data: Database[Document], collection: str) -> dict[str, Any]:
    return dict(data[collection].index_information())


def _create(data: Database[Document], name: str) -> None:
    try:
        data.create_collection(name, check_exists=False)
    except CollectionInvalid:
        return
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
