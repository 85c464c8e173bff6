"""What the fake SkyPortal holds, and the rules by which it takes more in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kowalski.testing.skyportal import shapes

Record = dict[str, Any]

STREAMS = ("ZTF Public", "ZTF Public+Partnership", "ZTF Public+Partnership+Caltech", "PGIR", "WINTER", "TURBO")
INSTRUMENTS = ("ZTF", "PGIR", "WINTER", "TURBO")
FILTERS = 1000
"""A group that nobody has made has filters of all ids up to this."""


class Rejected(Exception):
    """The call is refused with 400 (or ``status``) and this message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Memory:
    """Everything that was taken in.

    Attributes
    ----------
    candidates
        One record per (object, filter, passed_at), in order of arrival.
    annotations
        ``<object>|<origin>`` -> record with id and number of updates.
    photometry
        ``<object>|<instrument>|<origin>|<mjd>|...`` -> point.
    thumbnails
        ``<object>|<ttype>`` -> picture in base64.
    thumbnail_posts
        The same keys -> how often one was posted.
    groups
        Those that were made by ``POST /_fake/groups``, by id.
    calls
        ``<method> <route>`` -> number of calls that were carried out.
    """

    candidates: list[Record] = field(default_factory=list)
    annotations: dict[str, Record] = field(default_factory=dict)
    photometry: dict[str, Record] = field(default_factory=dict)
    thumbnails: dict[str, str] = field(default_factory=dict)
    thumbnail_posts: Counter[str] = field(default_factory=Counter)
    groups: dict[int, shapes.Group] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _objects: set[str] = field(default_factory=set)
    _candidate_keys: set[tuple[str, int, str]] = field(default_factory=set)

    def knows(self, object_id: str) -> bool:
        """Whether there is such an object."""
        return object_id in self._objects

    def group(self, group_id: int) -> Record:
        """Describe a group and its filters."""
        made = self.groups.get(group_id)
        if made is None:
            names = {str(number): f"filter {number}" for number in range(1, FILTERS + 1)}
            made = shapes.Group(id=group_id, name=f"group {group_id}", filters=names)
        filters = [{"id": int(number), "name": name, "group_id": group_id} for number, name in made.filters.items()]
        return {"id": group_id, "name": made.name, "nickname": made.nickname, "filters": filters}

    def add_candidate(self, given: shapes.Candidate) -> Record:
        """Take in a candidate for all of its filters, or for none."""
        keys = [(given.id, number, given.passed_at) for number in given.filter_ids]
        for key in keys:
            if key in self._candidate_keys or keys.count(key) > 1:
                raise Rejected(
                    f"Failed to post candidate for object {given.id}: (psycopg2.errors.UniqueViolation) duplicate key "
                    'value violates unique constraint "candidates_main_index"\nDETAIL:  Key (obj_id, filter_id, '
                    f"passed_at)=({key[0]}, {key[1]}, {key[2]}) already exists.\n"
                )
        self._objects.add(given.id)
        self._candidate_keys.update(keys)
        record = given.model_dump(exclude={"filter_ids"})
        self.candidates += [record | {"filter_id": number} for number in given.filter_ids]
        return {"ids": list(range(len(self.candidates) - len(keys) + 1, len(self.candidates) + 1))}

    def annotations_of(self, object_id: str) -> list[Record]:
        """List an object's annotations."""
        self._require(object_id)
        return [each for each in self.annotations.values() if each["obj_id"] == object_id]

    def add_annotation(self, given: shapes.Annotation) -> Record:
        """Take in a new annotation."""
        self._require(given.obj_id)
        key = f"{given.obj_id}|{given.origin}"
        if key in self.annotations:
            raise Rejected(
                "(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "
                '"annotations_obj_id_origin_key"'
            )
        number = len(self.annotations) + 1
        self.annotations[key] = given.model_dump() | {"id": number, "author_id": 1, "updates": 0}
        return {"annotation_id": number}

    def update_annotation(self, number: int, given: shapes.AnnotationUpdate) -> Record:
        """Replace an annotation's content."""
        stored = next((each for each in self.annotations.values() if each["id"] == number), None)
        if stored is None or stored["obj_id"] != given.obj_id:
            raise Rejected("Could not find any accessible annotations.", status=403)
        stored.update(given.model_dump(), updates=stored["updates"] + 1)
        return {}

    def add_photometry(self, given: shapes.Photometry, *, ignore_flux: bool, overwrite: bool) -> Record:
        """Take in the points that are new; with both flags, let a point with an origin have a new flux."""
        self._require(given.obj_id)
        taken = 0
        for at, mjd in enumerate(given.mjd):
            origin = given.origin[at] if given.origin is not None else None
            key = f"{given.obj_id}|{given.instrument_id}|{origin or ''}|{mjd!r}"
            if not ignore_flux:
                key += f"|{given.filter[at]}|{given.flux[at]!r}|{given.fluxerr[at]!r}"
            columns = ("mjd", "flux", "fluxerr", "zp", "magsys", "filter", "ra", "dec")
            point = {name: getattr(given, name)[at] for name in columns}
            point |= {"obj_id": given.obj_id, "origin": origin, "stream_ids": given.stream_ids}
            if key not in self.photometry:
                self.photometry[key] = point
                taken += 1
            elif ignore_flux and overwrite and origin:
                self.photometry[key].update(flux=point["flux"], fluxerr=point["fluxerr"])
        return {"ids": list(range(len(given.mjd))), "new": taken}

    def add_thumbnail(self, given: shapes.Thumbnail) -> Record:
        """Take in a picture in place of an earlier one of its kind."""
        self._require(given.obj_id)
        key = f"{given.obj_id}|{given.ttype}"
        self.thumbnails[key] = given.data
        self.thumbnail_posts[key] += 1
        return {"id": len(self.thumbnails)}

    def add_group(self, given: shapes.Group) -> Record:
        """Make or replace a group."""
        self.groups[given.id] = given
        return {"id": given.id}

    def as_json(self) -> Record:
        """Give everything in a form that JSON can hold."""
        return {
            "candidates": self.candidates,
            "annotations": list(self.annotations.values()),
            "photometry": list(self.photometry.values()),
            "thumbnails": self.thumbnails,
            "thumbnail_posts": self.thumbnail_posts,
            "groups": [each.model_dump() for each in self.groups.values()],
            "calls": self.calls,
        }

    def _require(self, object_id: str) -> None:
        if object_id not in self._objects:
            raise Rejected(f"Cannot find source or candidate {object_id}: Invalid obj_id")
