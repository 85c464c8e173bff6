"""One object, many surveys: which objects of other surveys lie where an object of this one does.

Every object whose place all may know carries it (`kowalski.archive.places`), and names the objects of other surveys
that are the same: ``aliases: {<survey>: [<name>, …]}``. Both sides name each other. Whoever writes an object looks for
others only after it is stored; so of two that are stored at the same time at least one finds the other, and each writes
both sides. The other side is written first: an object that names its alias is named by it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from kowalski.archive.catalogs import Catalog
from kowalski.archive.client import Document
from kowalski.config import Settings
from kowalski.config.settings import CrossMatch
from kowalski.science.coordinates import ALERT_ORDER, Floats, healpix_cones
from kowalski.surveys import SURVEYS
from kowalski.surveys.base import Survey

Names = Mapping[str, Sequence[str]]
"""Survey -> names of its objects."""


def position_error(settings: Settings, survey: Survey) -> float:
    """How far an object's position may be off, arcsec."""
    switch = settings.surveys.get(survey.name)
    configured = switch.position_error if switch is not None else None
    return survey.position_error if configured is None else configured


class Aliases:
    """Finds and writes the aliases of one survey's objects.

    Parameters
    ----------
    data
        The data database.
    survey
        The survey.
    radii
        Names of other surveys, and how far apart objects of both may lie, in arcsec.
    """

    def __init__(self, data: Database[Document], survey: Survey, radii: Mapping[str, float]) -> None:
        self._survey = survey
        self._objects = data[survey.objects]
        self._others = {
            name: Catalog(
                data[SURVEYS[name].objects], CrossMatch(cone_search_radius=radius, projection={"_id": 1}), ALERT_ORDER
            )
            for name, radius in radii.items()
        }
        self._peopled: set[str] = set()

    @classmethod
    def of(cls, data: Database[Document], settings: Settings, survey: Survey) -> Aliases:
        """Aliases in all other surveys that are enabled; errors of both positions add up in quadrature."""
        own = position_error(settings, survey)
        radii = {
            name: math.hypot(own, position_error(settings, SURVEYS[name]))
            for name in settings.enabled_surveys
            if name != survey.name
        }
        return cls(data, survey, radii)

    def link(self, object_ids: Sequence[str], ra: Floats, dec: Floats, known: Mapping[str, Names]) -> None:
        """Find aliases of stored objects, one query per survey, and write down on both sides what is new.

        Parameters
        ----------
        object_ids, ra, dec
            Names of objects, and where they are (degrees, shape (n,)).
        known
            The aliases that objects have already; may lack some.
        """
        mine: dict[str, Document] = {}
        cones = functools.partial(healpix_cones, ra, dec)
        for name, catalog in self._others.items():
            if not self._is_peopled(name, catalog.collection):
                continue
            theirs: dict[str, list[str]] = {}
            for object_id, found in zip(object_ids, catalog.match(ra, dec, cones), strict=True):
                named = [match["_id"] for match in found]
                news = [alias for alias in named if alias not in known.get(object_id, {}).get(name, ())]
                for alias in news:
                    theirs.setdefault(alias, []).append(object_id)
                if news:
                    mine.setdefault(object_id, {}).update(_joined(name, news))
            _write(catalog.collection, {alias: _joined(self._survey.name, names) for alias, names in theirs.items()})
        _write(self._objects, mine)

    def _is_peopled(self, name: str, objects: Collection[Document]) -> bool:
        """Whether a survey has any object; once it has, it has for ever."""
        if name not in self._peopled and objects.find_one({}, {"_id": 1}) is not None:
            self._peopled.add(name)
        return name in self._peopled


def _joined(survey: str, names: Sequence[str]) -> Document:
    """Add names to those of ``survey``, in alphabetic order: the same whoever comes first."""
    field = f"aliases.{survey}"
    union: dict[str, Any] = {"$setUnion": [{"$ifNull": [f"${field}", []]}, [{"$literal": name} for name in names]]}
    return {field: {"$sortArray": {"input": union, "sortBy": 1}}}


def _write(objects: Collection[Document], changes: Mapping[str, Document]) -> None:
    if changes:
        updates = [UpdateOne({"_id": object_id}, [{"$set": change}]) for object_id, change in changes.items()]
        objects.bulk_write(updates, ordered=False)
