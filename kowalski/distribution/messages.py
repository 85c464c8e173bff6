"""What one pass of a filter looks like on Kafka: a record in Avro or in JSON, its schema in a header.

Headers: ``id`` (``<survey>:<candid>:<filter_id>``, by which a reader knows a message that comes twice),
``content-type``, and ``schema`` (an Avro schema, or a JSON Schema).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import fastavro
import orjson
from pydantic import BaseModel, ConfigDict

from kowalski import surveys
from kowalski.archive.client import Document
from kowalski.archive.curves import Curves
from kowalski.science.photometry import LightCurve

Format = Literal["avro", "json"]
CONTENT_TYPES: dict[Format, str] = {"avro": "avro/binary", "json": "application/json"}


class Measurement(BaseModel):
    """One point of the light curve: a difference flux, or a limit of five times its error where ``flux`` is null.

    Attributes
    ----------
    mjd
        Modified Julian Date, days.
    flux, fluxerr, zp
        In units of the AB zero point ``zp``, mag.
    band
        sncosmo's name of the filter.
    forced
        Whether it was measured at the object's position without a detection.
    """

    model_config = ConfigDict(frozen=True)

    mjd: float
    flux: float | None
    fluxerr: float
    zp: float
    band: str
    forced: bool


class Pass(BaseModel):
    """An alert that has passed a filter.

    Attributes
    ----------
    jd, ra, dec
        The alert's time and place: Julian date, degrees ICRS.
    score
        Real or bogus, 0 to 1.
    passed_at
        When the filter ran: ISO 8601, UTC.
    annotations
        What the filter says of the alert, as JSON text.
    photometry
        The object's measurements that the filter may see, in order of time.
    """

    model_config = ConfigDict(frozen=True)

    survey: str
    candid: int
    objectId: str
    jd: float
    ra: float
    dec: float
    score: float | None
    group_id: int
    filter_id: int
    fid: str
    passed_at: str
    annotations: str
    photometry: list[Measurement]

    @property
    def identity(self) -> str:
        """The ``id`` header."""
        return f"{self.survey}:{self.candid}:{self.filter_id}"


AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Pass",
    "namespace": "kowalski",
    "fields": [
        {"name": "survey", "type": "string"},
        {"name": "candid", "type": "long"},
        {"name": "objectId", "type": "string"},
        {"name": "jd", "type": "double"},
        {"name": "ra", "type": "double"},
        {"name": "dec", "type": "double"},
        {"name": "score", "type": ["null", "double"]},
        {"name": "group_id", "type": "int"},
        {"name": "filter_id", "type": "int"},
        {"name": "fid", "type": "string"},
        {"name": "passed_at", "type": "string"},
        {"name": "annotations", "type": "string"},
        {
            "name": "photometry",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Measurement",
                    "fields": [
                        {"name": "mjd", "type": "double"},
                        {"name": "flux", "type": ["null", "double"]},
                        {"name": "fluxerr", "type": "double"},
                        {"name": "zp", "type": "double"},
                        {"name": "band", "type": "string"},
                        {"name": "forced", "type": "boolean"},
                    ],
                },
            },
        },
    ],
}
"""Schema of `Pass` (Apache Avro 1.11)."""


def of(document: Document, one: Mapping[str, Any]) -> Pass:
    """Make the message of one pass of an outbox document.

    Raises
    ------
    LookupError, TypeError, ValueError
        If the document does not hold what it should.
    """
    survey = surveys.get(document["_id"]["survey"])
    programs = None if survey.program_field is None else frozenset(one["permissions"])
    points: list[Measurement] = []
    if document["photometry"] is not None:
        curves = Curves.of(document["photometry"])
        points = _measurements(curves.alerts, programs, forced=False)
        points += _measurements(curves.forced, programs, forced=True)
    return Pass(
        survey=survey.name,
        candid=document["_id"]["candid"],
        objectId=document["objectId"],
        jd=document["jd"],
        ra=document["ra"],
        dec=document["dec"],
        score=document["score"],
        group_id=one["group_id"],
        filter_id=one["filter_id"],
        fid=one["fid"],
        passed_at=one["passed_at"].isoformat(timespec="milliseconds"),
        annotations=orjson.dumps(one["annotations"], default=str).decode(),
        photometry=sorted(points, key=lambda point: point.mjd),
    )


def _measurements(curve: LightCurve, programs: frozenset[int] | None, *, forced: bool) -> list[Measurement]:
    columns = (curve.mjd, curve.flux, curve.fluxerr, curve.zp, curve.band, curve.program)
    return [
        Measurement(mjd=mjd, flux=None if flux != flux else flux, fluxerr=error, zp=zp, band=band, forced=forced)
        for mjd, flux, error, zp, band, program in zip(*(column.tolist() for column in columns), strict=True)
        if programs is None or program in programs
    ]


def encode(message: Pass, form: Format) -> bytes:
    """Write a message."""
    if form == "json":
        return orjson.dumps(message.model_dump())
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _parsed(), message.model_dump())
    return buffer.getvalue()


def headers(message: Pass, form: Format) -> list[tuple[str, str | bytes | None]]:
    """Give the headers of a message."""
    return [
        ("id", message.identity.encode()),
        ("content-type", CONTENT_TYPES[form].encode()),
        ("schema", schema(form)),
    ]


@cache
def schema(form: Format) -> bytes:
    """Give the schema of all messages, as JSON text."""
    return orjson.dumps(AVRO_SCHEMA if form == "avro" else Pass.model_json_schema())


@cache
def _parsed() -> Any:
    return fastavro.parse_schema(AVRO_SCHEMA)
