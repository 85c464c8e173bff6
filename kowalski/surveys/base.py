"""What a survey declares about itself, and the shape in which its alerts go through the broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, Literal

Record = dict[str, Any]
Stage = dict[str, Any]


class PacketError(Exception):
    """A packet can't be taken in; the text says why and goes into its dead letter."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """The three images of an alert as they came: gzip-compressed FITS, or None where the packet has none."""

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


class Survey(ABC):
    """The facts of one survey. A subclass in a file of its own declares them; nothing else names a survey."""

    name: ClassVar[str]
    """Key of the survey in the configuration and in collection names, e.g. ``ZTF``."""
    object_id_field: ClassVar[str] = "objectId"
    topics: ClassVar[str]
    """Regular expression of the survey's Kafka topics with a group ``date`` (YYYYMMDD)."""
    histories: ClassVar[tuple[History, ...]]
    light_curve: ClassVar[tuple[str, str]] = ("prv_candidates", "magpsf")
    """The history that holds an object's detections, and its field of magnitudes."""
    program_field: ClassVar[str | None] = None
    """Field of the alert document that holds the program id, where the survey has programs."""
    kept_fields: ClassVar[tuple[str, ...]] = (
        "schemavsn",
        "publisher",
        "objectId",
        "candid",
        "candidate",
        "classifications",
        "coordinates",
    )
    """Fields of the alert that filters see, beside histories and cross-matches."""

    history_features: ClassVar[frozenset[str]] = frozenset()
    """Those of `features` that need the object's earlier detections."""

    # Stamps
    stamp_fields: ClassVar[tuple[str, str, str]] = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    stamp_orientation: ClassVar[tuple[Literal["flipud", "fliplr", "rot90"], ...]] = ()
    """What turns a stamp as stored into one as shown, in order."""

    # Photometry and SkyPortal
    instrument: ClassVar[str]
    """The instrument's name in SkyPortal."""
    bands: ClassVar[Mapping[Any, str]]
    """``candidate.fid`` (or None for a survey of one band) -> sncosmo band name."""
    streams: ClassVar[Mapping[int, str]]
    """Program id -> name of the SkyPortal stream; 0 where the survey has none."""

    @property
    def alerts(self) -> str:
        """Name of the alert collection."""
        return f"{self.name}_alerts"

    @property
    def objects(self) -> str:
        """Name of the collection with one document per object."""
        return f"{self.name}_alerts_aux"

    @abstractmethod
    def shape(self, packet: Record) -> Alert:
        """Split a decoded packet into the alert's document and its history.

        Raises
        ------
        PacketError
            If a field that the survey promises is missing or null.
        """

    @abstractmethod
    def stamps_of(self, document: Mapping[str, Any]) -> Stamps:
        """Find the three stamps in a packet or stored alert."""

    @abstractmethod
    def features(self, alert: Alert, past: Sequence[tuple[float, float]]) -> Mapping[str, Any]:
        """Give the scalars that models may use, by name.

        Parameters
        ----------
        alert
            The alert to score.
        past
            (jd, magpsf) of the object's earlier detections.
        """

    def format_history(self, name: str, rows: list[Record], alert: Record) -> list[Record]:
        """Add what the survey derives to new rows of history ``name``; ``alert`` is the carrying document."""
        return rows

    def topic_of(self, night: date, program: int = 1) -> str:
        """Name of the topic of one night."""
        raise NotImplementedError

    def filter_prefix(self, candids: Sequence[int] | None, permissions: Sequence[int]) -> list[Stage]:
        """Build the stages that run before a user's filter: match, drop stamps, join the object, cut its history.

        Parameters
        ----------
        candids
            The alerts to run on; None leaves out that condition (archive tests add their own).
        permissions
            Program ids that the filter may see.
        """
        match: Stage = {} if candids is None else {"_id": {"$in": list(candids)}}
        if self.program_field is not None:
            match[self.program_field] = {"$in": list(permissions)}
        shown: Stage = dict.fromkeys(self.kept_fields, 1)
        joined = {"$arrayElemAt": ["$aux", 0]}
        shown["cross_matches"] = {"$getField": {"field": "cross_matches", "input": joined}}
        for history in self.histories:
            shown[history.name] = self._visible_rows(history, permissions)
        return [
            {"$match": match},
            {"$project": dict.fromkeys(self.stamp_fields, 0)},
            {"$lookup": {"from": self.objects, "localField": self.object_id_field, "foreignField": "_id", "as": "aux"}},
            {"$project": shown},
        ]

    def _visible_rows(self, history: History, permissions: Sequence[int]) -> Stage:
        conditions: list[Stage] = [{"$lt": [{"$subtract": ["$candidate.jd", "$$item.jd"]}, history.days]}]
        if history.by_program:
            conditions.append({"$in": ["$$item.programid", list(permissions)]})
        conditions += [{"$eq": [f"$$item.{name}", value]} for name, value in history.match.items()]
        rows = {"$ifNull": [{"$arrayElemAt": [f"$aux.{history.name}", 0]}, []]}
        return {"$filter": {"input": rows, "as": "item", "cond": {"$and": conditions}}}


SurveyFactory = Callable[[], Survey]
