"""What the fake SkyPortal holds, and the rules by which it takes more in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kowalski.surveys import SURVEYS
from kowalski.testing.skyportal import shapes

Record = dict[str, Any]

STREAMS = tuple(dict.fromkeys(name for survey in SURVEYS.values() for name in sorted(set(survey.streams.values()))))
INSTRUMENTS = tuple(dict.fromkeys(survey.instrument for survey in SURVEYS.values()))
IMPLIED = 1000
"""Groups, filters, allocations and users of all ids up to this exist; nobody has to make them."""


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
    sources
        ``<object>|<group>`` -> record with who saved it (``saved_by``).
    saved_at
        Object -> when it was last saved (UTC, ISO 8601).
    comments
        All of them, in order.
    positions
        Object -> (ra, dec), degrees.
    facts
        What was said of objects by ``POST /_fake/objects/{id}``.
    calls
        ``<method> <route>`` -> number of calls that were carried out.
    """

    candidates: list[Record] = field(default_factory=list)
    annotations: dict[str, Record] = field(default_factory=dict)
    photometry: dict[str, Record] = field(default_factory=dict)
    thumbnails: dict[str, str] = field(default_factory=dict)
    thumbnail_posts: Counter[str] = field(default_factory=Counter)
    groups: dict[int, shapes.Group] = field(default_factory=dict)
    sources: dict[str, Record] = field(default_factory=dict)
    saved_at: dict[str, str] = field(default_factory=dict)
    comments: list[Record] = field(default_factory=list)
    positions: dict[str, tuple[float, float]] = field(default_factory=dict)
    facts: dict[str, shapes.Facts] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _candidate_keys: set[tuple[str, int, str]] = field(default_factory=set)

    def has_candidate(self, object_id: str) -> bool:
        """Whether the object has passed a filter."""
        return any(each["id"] == object_id for each in self.candidates)

    def has_source(self, object_id: str) -> bool:
        """Whether a group holds the object."""
        return bool(self.groups_of(object_id))

    def group(self, group_id: int) -> Record:
        """Describe a group and its filters."""
        made = self.groups.get(group_id)
        if made is None:
            self._require_number(group_id, f"Could not load group with ID {group_id}")
            names = {str(number): f"filter {number}" for number in range(1, IMPLIED + 1)}
            made = shapes.Group(id=group_id, name=f"group {group_id}", filters=names)
        filters = [{"id": int(number), "name": name, "group_id": group_id} for number, name in made.filters.items()]
        return {"id": group_id, "name": made.name, "nickname": made.nickname, "filters": filters}

    def add_candidate(self, given: shapes.Candidate) -> Record:
        """Take in a candidate for all of its filters, or for none."""
        own = {int(number) for group in self.groups.values() for number in group.filters}
        if not any(number in own or 0 < number <= IMPLIED for number in given.filter_ids):
            raise Rejected("At least one valid filter ID must be provided.")
        keys = [(given.id, number, given.passed_at) for number in given.filter_ids]
        for key in keys:
            if key in self._candidate_keys or keys.count(key) > 1:
                raise Rejected(
                    f"Failed to post candidate for object {given.id}: (psycopg2.errors.UniqueViolation) duplicate key "
                    'value violates unique constraint "candidates_main_index"\nDETAIL:  Key (obj_id, filter_id, '
                    f"passed_at)=({key[0]}, {key[1]}, {key[2]}) already exists.\n"
                )
        self.positions.setdefault(given.id, (given.ra, given.dec))
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
        if not 0 < given.instrument_id <= len(INSTRUMENTS):
            raise Rejected(f"Invalid instrument ID: {given.instrument_id}")
        if not all(0 < stream <= len(STREAMS) for stream in given.stream_ids):
            raise Rejected(f"Invalid stream_ids: {given.stream_ids}")
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
                continue
            known = self.photometry[key]
            known["stream_ids"] = sorted({*known["stream_ids"], *given.stream_ids})
            if ignore_flux and overwrite and origin:
                known.update(flux=point["flux"], fluxerr=point["fluxerr"])
        return {"ids": list(range(len(given.mjd))), "new": taken}

    def add_thumbnail(self, given: shapes.Thumbnail) -> Record:
        """Take in a picture in place of an earlier one of its kind."""
        self._require(given.obj_id)
        key = f"{given.obj_id}|{given.ttype}"
        self.thumbnails[key] = given.data
        self.thumbnail_posts[key] += 1
        return {"id": len(self.thumbnails)}

    def page_of_sources(self, query: Record) -> Record:
        """List the sources that were made or changed after a moment, page by page."""
        after = query.get("createdOrModifiedAfter", "")
        names = sorted(name for name, moment in self.saved_at.items() if moment > after)
        size, number = int(query.get("numPerPage", 100)), int(query.get("pageNumber", 1))
        page = names[size * (number - 1) : size * number]
        return {"sources": [{"id": name} for name in page], "totalMatches": len(names), "pageNumber": number}

    def add_source(self, given: shapes.Source, now: str = "") -> Record:
        """Save an object to groups, except to those that don't want what others hold."""
        for group_id in given.group_ids:
            self._require_number(group_id, f"Cannot find group_id {group_id}. Please remove and try again.")
        if not {int(group) for group in given.ignore_if_in_group_ids} <= set(given.group_ids):
            raise Rejected("Invalid ignore_if_in_group_ids field. Please specify a dict of group_ids")
        if given.id not in self.positions:
            if given.ra is None or given.dec is None:
                raise Rejected("RA/Declination must not be null for a new Obj")
            self.positions[given.id] = given.ra, given.dec
        holding = set(self.groups_of(given.id))
        saved = []
        for group_id in given.group_ids:
            if holding.isdisjoint(given.ignore_if_in_group_ids.get(str(group_id), ())):
                saver = given.saver_per_group_id.get(str(group_id), 1)
                self.sources.setdefault(f"{given.id}|{group_id}", {"saved_by": saver})
                self.saved_at[given.id] = now
                saved.append(group_id)
        return {"id": given.id, "saved_to_groups": saved}

    def groups_of(self, object_id: str) -> list[int]:
        """Find the groups that hold an object."""
        return [int(key.rpartition("|")[2]) for key in self.sources if key.rpartition("|")[0] == object_id]

    def add_comment(self, object_id: str, given: shapes.Comment) -> Record:
        """Take in a comment, as often as it comes."""
        self._require(object_id)
        if not any(group in self.groups or 0 < group <= IMPLIED for group in given.group_ids):
            raise Rejected("Could not find any accessible groups.", status=403)
        groups = [{"id": group} for group in given.group_ids]
        record = {"id": len(self.comments) + 1, "obj_id": object_id, "text": given.text, "groups": groups, "bot": True}
        self.comments.append(record)
        return {"comment_id": record["id"]}

    def comments_of(self, object_id: str) -> list[Record]:
        """List the comments on an object."""
        self._require(object_id)
        return [each for each in self.comments if each["obj_id"] == object_id]

    def add_facts(self, object_id: str, given: shapes.Facts) -> Record:
        """Remember what people have found out about an object."""
        self.facts[object_id] = given
        return {}

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
            "sources": self.sources,
            "comments": self.comments,
            "calls": self.calls,
        }

    def _require(self, object_id: str) -> None:
        if object_id not in self.positions:
            raise Rejected(f"Cannot find source or candidate {object_id}: Invalid obj_id")

    def _require_number(self, number: int, complaint: str) -> None:
        if number not in self.groups and not 0 < number <= IMPLIED:
            raise Rejected(complaint)
