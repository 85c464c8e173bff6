"""What a survey declares about itself, and the shape in which its alerts go through the broker."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, Literal

from kowalski.science.photometry import LightCurve, alert_photometry, forced_photometry

Record = dict[str, Any]
Stage = dict[str, Any]


FENCE: Stage = {"$limit": 2**62}
"""Lets every document pass. Conditions behind it stay there, because what they leave depends on a limit before them;
else MongoDB may try them first, on documents that must not be seen, and tell by an error what is in them."""


class PacketError(Exception):
    """A packet can't be taken in; the text says why and goes into its dead letter."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """The three images of an alert as they came: FITS, in gzip or plain, or None where the packet has none."""

    science: bytes | None
    template: bytes | None
    difference: bytes | None


@dataclass(frozen=True, slots=True)
class History:
    """One list of past measurements that is kept on the object.

    Attributes
    ----------
    name
        The field of the packet and of the object's document.
    key
        Fields that identify a row: two rows of one key are one measurement.
    prefer
        Fields that decide between two rows of one key, smallest value first, a missing one before all others;
        whatever is still equal is decided by the rows' whole content.
    days
        Filters see rows younger than this many days before the alert.
    by_program
        Whether rows carry a ``programid`` that must be among a filter's permissions.
    match
        Further conditions (field -> value) for rows that filters see.
    """

    name: str
    key: tuple[str, ...]
    prefer: tuple[str, ...] = ()
    days: float = 365.0
    by_program: bool = False
    match: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a reader who may not see every program gets to see of one collection.

    Attributes
    ----------
    match
        Condition of a query that a stored document must fulfil to be seen at all.
    stages
        Stages that take out of a document what must not be seen of it; none if it is seen as a whole.
    rows
        Fields that `stages` thin out: whatever looks at them must come afterwards.
    """

    match: Mapping[str, Any]
    stages: tuple[Stage, ...] = ()
    rows: tuple[str, ...] = ()

    def thins(self, path: str) -> bool:
        """Whether a path leads into a field of which something is taken out."""
        return path.partition(".")[0] in self.rows


@dataclass(slots=True)
class Alert:
    """One alert of any survey, as `Survey.shape` makes it of a packet.

    Attributes
    ----------
    document
        What is stored in the survey's alert collection, without ``_id``, ``coordinates``, ``classifications``, which
        the stages add. Holds the packet's fields as they came.
    histories
        Rows for the object's document, by `History.name`; nulls are dropped.
    keeps
        Names of histories that the object's document starts to hold if this alert is its first.
    moves
        Whether the object is known to move: then no other survey's object is the same for its position.
    """

    candid: int
    object_id: str
    jd: float
    ra: float
    dec: float
    document: Record
    histories: dict[str, list[Record]]
    stamps: Stamps
    keeps: frozenset[str]
    moves: bool = False


class Survey(ABC):
    """The facts of one survey. A subclass in a file of its own declares them; nothing else names a survey.

    Packets that look like ZTF's (``candid``, ``objectId``, ``candidate``, lists of earlier measurements, stamps) need
    no more than the declarations. Others are brought into that shape by a `shape` of the survey's own.
    """

    name: ClassVar[str]
    """Key of the survey in the configuration and in collection names, e.g. ``ZTF``."""
    topics: ClassVar[str]
    """Regular expression of the survey's Kafka topics with a group ``date`` (YYYYMMDD)."""
    topic: ClassVar[str]
    """Name of one night's topic, with ``{night:%Y%m%d}`` and, if the survey has several, ``{program}``."""

    simulator: ClassVar[str | None] = None
    """Module that makes packets like the survey's own, if there is one: see `kowalski.testing.simulator`."""

    # Packets and documents
    numbers_schemas: ClassVar[bool] = False
    """Whether packets may come in wire format, which names a schema by its number."""
    object_id_field: ClassVar[str] = "objectId"
    histories: ClassVar[tuple[History, ...]]
    light_curve: ClassVar[tuple[str, str]] = ("prv_candidates", "magpsf")
    """The history that holds an object's detections, and its field of magnitudes."""
    program_field: ClassVar[str | None] = None
    """Field of the alert document that holds the program id, where filters see some programs only."""
    public_programs: ClassVar[frozenset[int]] = frozenset({1})
    """Programs whose alerts everybody may see, where there are programs."""
    position_error: ClassVar[float] = 1.0
    """How far an object's position may be off, arcsec: objects of two surveys within both errors (in quadrature) are
    taken for the same."""
    kept_fields: ClassVar[tuple[str, ...]] = (
        "schemavsn",
        "publisher",
        "candid",
        "candidate",
        "classifications",
        "coordinates",
    )
    """Fields of the alert that filters see, beside the object's name, histories and cross-matches."""
    history_features: ClassVar[frozenset[str]] = frozenset()
    """Those of `features` that need the object's earlier detections."""

    # Stamps
    stamp_fields: ClassVar[tuple[str, str, str]] = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    """Science, template, difference: each holds the file's bytes, or a record with them as ``stampData``."""
    stamp_orientation: ClassVar[tuple[Literal["flipud", "fliplr", "rot90"], ...]] = ()
    """What turns a stamp as stored into one as shown, in order."""
    stamp_stretch: ClassVar[Literal["percentile", "sigma"]] = "percentile"
    """How its pixels become shades of grey: see `kowalski.science.thumbnails.render`."""

    # Photometry and SkyPortal
    instrument: ClassVar[str]
    """The instrument's name in SkyPortal."""
    bands: ClassVar[Mapping[Any, str]]
    """``candidate.fid`` (or None for a survey of one band) -> sncosmo band name; alerts in others have no flux."""
    streams: ClassVar[Mapping[int, str]]
    """Program id -> name of the SkyPortal stream; 0 where the survey has none."""
    stream_words: ClassVar[tuple[str, ...]] = ()
    """Where SkyPortal has no stream of just that name: words, in lower case, by which its name tells the survey."""

    @property
    def alerts(self) -> str:
        """Name of the alert collection."""
        return f"{self.name}_alerts"

    @property
    def objects(self) -> str:
        """Name of the collection with one document per object."""
        return f"{self.name}_alerts_aux"

    @property
    def classifications(self) -> str:
        """Name of the collection with what users say that alerts are."""
        return f"{self.name}_alerts_classifications"

    @property
    def required(self) -> tuple[str, ...]:
        """Fields of the packet, by their dotted names, without which it is no alert."""
        return "candid", self.object_id_field, "candidate.jd", "candidate.ra", "candidate.dec"

    def checked(self, packet: Record) -> Record:
        """Give the packet back if it has all `required` fields.

        Raises
        ------
        PacketError
            If one of them is missing or null, or no number where it must be one; the text names it.
        """
        fault = _fault(packet, self.required)
        if fault is not None:
            raise PacketError(fault)
        return packet

    def shape(self, packet: Record) -> Alert:
        """Split a decoded packet into the alert's document and its history.

        Raises
        ------
        PacketError
            If a field that the survey promises is missing, null or impossible; the text names it.
        """
        try:
            candidate = packet["candidate"]
            candid, object_id = packet["candid"], packet[self.object_id_field]
            jd, ra, dec = float(candidate["jd"]), float(candidate["ra"]), float(candidate["dec"])
        except (KeyError, TypeError, ValueError) as error:
            self.checked(packet)
            raise PacketError("a required field is of another type") from error
        if type(candid) is not int or not isinstance(object_id, str) or not object_id:
            raise PacketError(f"candid {candid!r} must be an integer and {self.object_id_field} {object_id!r} a name")
        if not (math.isfinite(jd) and 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
            raise PacketError(f"impossible jd {jd}, ra {ra} or dec {dec}")
        document = dict(packet)
        histories = {
            history.name: self.format_history(history.name, _rows(document, history.name), candidate)
            for history in self.histories
        }
        keeps = self.keeps(candidate, jd)
        return Alert(candid, object_id, jd, ra, dec, document, histories, self.stamps_of(packet), keeps)

    def is_public(self, alert: Alert) -> bool:
        """Whether everybody may see an alert."""
        if self.program_field is None:
            return True
        value: Any = alert.document
        for part in self.program_field.split("."):
            value = value.get(part)
        return value in self.public_programs

    def object_name(self, packet: Record) -> str | None:
        """Name the object of a packet; None if it is none of this survey's."""
        name = packet.get(self.object_id_field)
        return name if isinstance(name, str) else None

    def keeps(self, candidate: Record, jd: float) -> frozenset[str]:
        """Name the histories that an object's document starts to hold if its first alert is ``candidate``."""
        return frozenset(history.name for history in self.histories)

    def stamps_of(self, document: Mapping[str, Any]) -> Stamps:
        """Find the three stamps in a packet or stored alert."""
        return Stamps(*[_stamp(document.get(field)) for field in self.stamp_fields])

    def features(self, alert: Alert, past: Sequence[tuple[float, float]]) -> Mapping[str, Any]:
        """Give the scalars that models may use, by name.

        Parameters
        ----------
        alert
            The alert to score.
        past
            (jd, magpsf) of the object's earlier detections.
        """
        features: Record = alert.document["candidate"]
        return features

    def format_history(self, name: str, rows: list[Record], candidate: Record) -> list[Record]:
        """Make of the packet's rows of history ``name`` what the object keeps: nulls are dropped."""
        return [{key: value for key, value in row.items() if value is not None} for row in rows]

    def alert_curve(self, rows: Sequence[Record]) -> LightCurve:
        """Make the light curve of candidates and of `light_curve` rows; ``programid`` tells who may see what."""
        return alert_photometry(rows, self.bands)

    def forced_curve(self, rows: Sequence[Record]) -> LightCurve:
        """Make the light curve of the rows of all other histories."""
        return forced_photometry(rows, self.bands)

    def schema_number(self, name: str) -> int | None:
        """Derive the number of a schema in the wire format from its full name, where the survey has a rule."""
        return None

    def topic_of(self, night: date, program: int = 1) -> str:
        """Name of the topic of one night."""
        return self.topic.format(night=night, program=program)

    def filter_prefix(
        self, candids: Sequence[int] | None, permissions: Sequence[int], *, past_only: bool = False
    ) -> list[Stage]:
        """Build the stages that run before a user's filter: match, drop stamps, join the object, cut its history.

        Parameters
        ----------
        candids
            The alerts to run on; None leaves out that condition (archive tests add their own).
        permissions
            Program ids that the filter may see.
        past_only
            Whether rows of histories that are not older than the alert are cut, too: those are in the archive, but
            were not yet when the alert came in.
        """
        match: Stage = {} if candids is None else {"_id": {"$in": list(candids)}}
        if self.program_field is not None:
            match[self.program_field] = {"$in": list(permissions)}
        shown: Stage = dict.fromkeys((self.object_id_field, *self.kept_fields), 1)
        joined = {"$arrayElemAt": ["$aux", 0]}
        for name in ("cross_matches", "aliases"):
            shown[name] = {"$getField": {"field": name, "input": joined}}
        for history in self.histories:
            rows = {"$ifNull": [{"$arrayElemAt": [f"$aux.{history.name}", 0]}, []]}
            shown[history.name] = self.visible_rows(history, rows, "$candidate.jd", permissions, past_only=past_only)
        return [
            {"$match": match},
            FENCE,
            {"$project": dict.fromkeys(self.stamp_fields, 0)},
            {"$lookup": {"from": self.objects, "localField": self.object_id_field, "foreignField": "_id", "as": "aux"}},
            {"$project": shown},
        ]

    def guards(self, programs: Sequence[int]) -> dict[str, Guard]:
        """Tell what readers see who may see only some programs, by collection; nothing where there are no programs.

        Of an object they see what all programs have in common and their programs' rows. An object all of whose rows
        belong to others is not seen: its name and its neighbours in catalogs would tell where it is.
        """
        if self.program_field is None:
            return {}
        permitted = {"$in": list(programs)}
        rows = tuple(history.name for history in self.histories if history.by_program)
        mine: list[Stage] = [{f"{name}.programid": permitted} for name in rows]
        nobodys: list[Stage] = [{f"{name}.0": {"$exists": False} for name in rows}] if programs else []
        thinned = {name: _rows_of(name, programs) for name in rows}
        return {
            self.alerts: Guard({self.program_field: permitted}),
            self.classifications: Guard({"programid": permitted}),
            self.objects: Guard({"$or": [*mine, *nobodys]}, ({"$set": thinned},), rows),
        }

    def visible_rows(
        self, history: History, rows: Stage, jd: str, permissions: Sequence[int], *, past_only: bool
    ) -> Stage:
        """Build the expression that leaves of ``rows`` what filters see.

        Parameters
        ----------
        jd
            Expression of the alert's time.
        permissions, past_only
            As for `filter_prefix`.
        """
        conditions: list[Stage] = [{"$lt": [{"$subtract": [jd, "$$item.jd"]}, history.days]}]
        if past_only:
            conditions.append({"$lt": ["$$item.jd", jd]})
        if history.by_program:
            conditions.append({"$in": ["$$item.programid", list(permissions)]})
        conditions += [{"$eq": [f"$$item.{name}", value]} for name, value in history.match.items()]
        return {"$filter": {"input": rows, "as": "item", "cond": {"$and": conditions}}}


def _rows(document: Record, name: str) -> list[Record]:
    """Take the rows of a history out of a document; what is no list of measurements stays where it is."""
    given = document.pop(name, None)
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        document[name] = given
        return []
    if not all(isinstance(row.get("jd"), float | int) and math.isfinite(row["jd"]) for row in given):
        raise PacketError(f"required field {name}.jd is missing, null or no time in a row")
    return given


def _stamp(value: Any) -> bytes | None:
    found = value.get("stampData") if isinstance(value, Mapping) else value
    return found if isinstance(found, bytes) else None


def _fault(packet: Record, required: Iterable[str]) -> str | None:
    """Say which required field is to blame, if any is."""
    for name in required:
        value: Any = packet
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return f"required field {name} is missing"
            value = value[part]
        if value is None:
            return f"required field {name} is null"
        if "." in name and not isinstance(value, int | float):
            return f"required field {name} is no number: {value!r}"[:500]
    return None


def _rows_of(name: str, programs: Sequence[int]) -> Stage:
    """Keep the rows of some programs; a history that is absent stays so."""
    kept = {"$filter": {"input": f"${name}", "as": "row", "cond": {"$in": ["$$row.programid", list(programs)]}}}
    return {"$cond": [{"$isArray": f"${name}"}, kept, "$$REMOVE"]}


SurveyFactory = Callable[[], Survey]
