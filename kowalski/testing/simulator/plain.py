"""Packets of surveys that describe an alert by plain fields: what is known under the names that surveys share is
written into the fields of their schema, in the type that stands there, and null or nothing into all others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.random import Generator

from kowalski.surveys.base import Survey
from kowalski.testing.simulator.container import Record
from kowalski.testing.simulator.observations import Measurements
from kowalski.testing.simulator.places import ORDINAL_ZERO, Place, unused
from kowalski.testing.simulator.sources import Source
from kowalski.testing.simulator.stamps import Image, Scene, fits

CANDIDS_PER_DAY = 10_000
FIRST_DAY = 2457000.5
NOTHING = {"int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": "", "boolean": False, "bytes": b""}


class PlainObject:
    """One object with all that was measured of it; a survey's own class declares how its packets differ.

    The arguments are those of every simulator's ``Object``.
    """

    survey: ClassVar[Survey]
    schema: ClassVar[Path]
    version: ClassVar[str] = "0.1"
    publisher: ClassVar[str] = "Kowalski alert simulator"
    fids: ClassVar[Mapping[int, int | None]]
    """Band of the simulated sky -> the survey's number of it, None where it has but one band."""
    brighter: ClassVar[float] = 0.0
    """How many magnitudes brighter than the simulated sky its sources are: small telescopes see bright ones only."""
    side: ClassVar[int] = 63
    """Pixels along a stamp's side."""
    history: ClassVar[Literal["all", "detections", "none"]] = "all"
    """What a packet tells of earlier exposures; all: of those, too, in which nothing was found."""
    difference_bits: ClassVar[int] = -32
    """``BITPIX`` of difference stamps."""
    known: ClassVar[frozenset[str] | None] = None
    """Names of all that its packets tell of a detection; None: whatever the schema has a field for."""

    def __init__(
        self, index: int, seed: int, source: Source, measured: Measurements, random: Generator, taken: set[int]
    ) -> None:
        self._source, self._measured, self._random = source, measured, random
        self._place = Place.draw(random)
        self._scene = Scene(source, random)
        self._first = float(measured.visits.jd[np.flatnonzero(measured.detected)[0]])
        self.name = self.named(index, seed, date.fromordinal(int(self._first - ORDINAL_ZERO)).year)
        self._fields = _fields(self.schema)
        self._taken = taken
        self._rows = [self._row(number) for number in range(len(measured.visits.jd))]

    def named(self, index: int, seed: int, year: int) -> str:
        """Name the object in the manner of the survey; all names of a run differ."""
        raise NotImplementedError

    def alerts(self, night: float) -> Iterator[Record]:
        """Make a packet of each detection since ``night``, in order of time."""
        for number, row in enumerate(self._rows):
            if row["jd"] > night and row["candid"] is not None:
                yield self._packet(number, row if self.history != "none" else row | {"candid": self._candid(row["jd"])})

    def first_candid(self, jd: float) -> int:
        """From which number on a detection at ``jd`` gets its identifier."""
        return max(1, int((jd - FIRST_DAY) * CANDIDS_PER_DAY))

    def _candid(self, jd: float) -> int:
        return unused(self.first_candid(jd), self._taken)

    def _packet(self, number: int, row: Record) -> Record:
        past = [each for each in self._rows[:number] if self.history == "all" or each["candid"] is not None]
        stamps = dict(zip(self.survey.stamp_fields, self._stamps(number), strict=True))
        facts = {
            "schemavsn": self.version,
            "publisher": self.publisher,
            self.survey.object_id_field: self.name,
            "candid": row["candid"],
            **stamps,
            "candidate": row | self._record(number),
            "prv_candidates": None if self.history == "none" else past,
        }
        return {name: _written(kind, facts.get(name), self.known) for name, kind in self._fields.items()}

    def _row(self, number: int) -> Record:
        """Describe an exposure and, if there is one, the detection in it."""
        visits, place, measured = self._measured.visits, self._place, self._measured
        jd = float(visits.jd[number])
        exposure: Record = {
            "jd": jd,
            "fid": self.fids[int(visits.band[number])],
            "diffmaglim": float(visits.limit[number]) - self.brighter,
            "program": "Simulated",
            "progname": "Simulated",
            "programid": 1,
            "nid": int(jd - FIRST_DAY),
            "field": place.field,
            "fieldid": place.field,
            "stackquadid": int((jd - FIRST_DAY) * 1000.0),
            "subid": int((jd - FIRST_DAY) * 1000.0),
            "candid": None,
        }
        if not measured.detected[number]:
            return exposure
        magnitude, error = measured.magnitude(number) - self.brighter, measured.magnitude_error(number)
        return exposure | {
            # where nobody hears of earlier detections, only those of the night have an identifier
            "candid": self._candid(jd) if self.history != "none" else 0,
            "isdiffpos": bool(measured.flux[number] > 0.0),
            "ra": place.ra,
            "dec": place.dec,
            "xpos": place.x,
            "ypos": place.y,
            "magpsf": magnitude,
            "sigmapsf": error,
            "magap": magnitude + self._random.normal(0.0, error),
            "sigmagap": 1.3 * error,
            "chipsf": 1.0 + self._random.exponential(0.3),
            "fwhm": float(visits.seeing[number]),
            "scorr": 1.0 / measured.signal_error(number),
            "magzpsci": float(visits.zero[number]) - self.brighter,
            "exptime": 30.0,
            "drb": 1.0 - 10.0 ** self._random.uniform(-5.0, -1.0) if self._source.is_real else 0.1,
            "drbversion": "simulated",
        }

    def _record(self, number: int) -> Record:
        """Add what only the alert's own description says: how often the object was detected, and since when."""
        jd = self._rows[number]["jd"]
        detections = int(np.count_nonzero(self._measured.detected[: number + 1]))
        return {
            "ndethist": detections,
            "jdstarthist": self._first,
            "jdendhist": jd,
            "jdstartref": self._first - 900.0,
            "jdendref": self._first - 700.0,
            "nframesref": 20,
        }

    def _stamps(self, number: int) -> tuple[bytes, bytes, bytes]:
        images = self._scene.images(self._measured, number, self._random)
        science, template, difference = (_resized(image, self.side) for image in images)
        return fits(science), fits(template), fits(difference, self.difference_bits)


def _resized(image: Image, side: int) -> Image:
    """Cut the middle out of an image, or mirror its edges outwards; one that is not square stays as it is."""
    size = image.shape[0]
    if image.shape != (size, size) or side == size:
        return image
    if side < size:
        margin = (size - side) // 2
        return image[margin : margin + side, margin : margin + side]
    return np.pad(image, (side - size) // 2, mode="reflect")


@cache
def _fields(schema: Path) -> dict[str, Any]:
    named: dict[str, Any] = {}
    return {field["name"]: _whole(field["type"], named) for field in json.loads(schema.read_text())["fields"]}


def _whole(kind: Any, named: dict[str, Any]) -> Any:
    """Put records in place of their names, which stand wherever a record is used again."""
    if isinstance(kind, list):
        return [_whole(each, named) for each in kind]
    if isinstance(kind, dict) and kind["type"] == "record":
        named[kind["name"]] = kind
        return {**kind, "fields": [{**field, "type": _whole(field["type"], named)} for field in kind["fields"]]}
    if isinstance(kind, dict) and "items" in kind:
        return {**kind, "items": _whole(kind["items"], named)}
    return named.get(kind, kind) if isinstance(kind, str) else kind


def _written(kind: Any, value: Any, known: frozenset[str] | None) -> Any:
    """Bring a value into the type ``kind`` of an Avro schema; None becomes null, or nothing where null is no choice."""
    if isinstance(kind, list):
        if value is None and "null" in kind:
            return None
        kind = next(each for each in kind if each != "null")
    if isinstance(kind, dict) and kind["type"] == "record":
        told = value if known is None else {name: value[name] for name in known & value.keys()}
        return {field["name"]: _written(field["type"], told.get(field["name"]), known) for field in kind["fields"]}
    if isinstance(kind, dict):
        return [_written(kind["items"], row, known) for row in value or ()]
    if value is None:
        return NOTHING[kind]
    if kind == "string":
        return str(int(value)) if isinstance(value, bool) else str(value)
    return {"int": int, "long": int, "float": float, "double": float, "boolean": bool, "bytes": bytes}[kind](value)
