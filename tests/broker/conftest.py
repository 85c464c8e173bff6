"""Small packets with exactly the fields that a test is about, and a worker's context without models."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import pytest
from pymongo import MongoClient

from kowalski.archive import indexes
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.config import Settings
from kowalski.surveys import get

Record = dict[str, Any]
PacketFactory = Callable[..., Packet]

OPTIONAL_LONG, OPTIONAL_DOUBLE, OPTIONAL_TEXT = ["null", "long"], ["null", "double"], ["null", "string"]

MEASUREMENT = {
    "jd": "double", "fid": "int", "pid": "long", "programid": "int", "candid": OPTIONAL_LONG,
    "magpsf": OPTIONAL_DOUBLE, "sigmapsf": OPTIONAL_DOUBLE, "diffmaglim": OPTIONAL_DOUBLE,
}  # fmt: skip
CANDIDATE = MEASUREMENT | {
    "ra": "double", "dec": "double", "drb": OPTIONAL_DOUBLE, "ndethist": "int", "ncovhist": "int",
    "jdstarthist": OPTIONAL_DOUBLE, "isdiffpos": "string",
}  # fmt: skip
FORCED = {
    "jd": "double", "fid": "int", "pid": "long", "programid": "int", "procstatus": "string", "magzpsci": "double",
    "forcediffimflux": OPTIONAL_DOUBLE, "forcediffimfluxunc": OPTIONAL_DOUBLE,
}  # fmt: skip


def _record(name: str, fields: dict[str, Any]) -> Record:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


SCHEMA = _record(
    "alert",
    {
        "schemavsn": "string",
        "objectId": "string",
        "candid": "long",
        "candidate": _record("candidate", CANDIDATE),
        "prv_candidates": ["null", {"type": "array", "items": _record("prv_candidate", MEASUREMENT)}],
        "fp_hists": ["null", {"type": "array", "items": _record("fp_hist", FORCED)}],
    },
)


def encode(record: Record, codec: str = "null") -> bytes:
    """Write one alert as an Avro container file."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, SCHEMA, [record], codec=codec)
    return buffer.getvalue()


def alert_record(candid: int, name: str = "ZTF23aaaaaaa", jd: float = 2460000.5, **changes: Any) -> Record:
    """Make an alert; ``changes`` go to the top level or, where they are fields of it, to ``candidate``."""
    candidate = {
        "jd": jd, "fid": 1, "pid": candid, "programid": 1, "candid": candid, "magpsf": 18.0, "sigmapsf": 0.1,
        "diffmaglim": 20.0, "ra": 150.0, "dec": 20.0, "drb": 0.9, "ndethist": 1, "ncovhist": 10, "jdstarthist": jd,
        "isdiffpos": "t",
    }  # fmt: skip
    record = {
        "schemavsn": "4.02", "objectId": name, "candid": candid, "candidate": candidate,
        "prv_candidates": [], "fp_hists": [],
    }  # fmt: skip
    for key, value in changes.items():
        (candidate if key in candidate else record)[key] = value
    return record


def detection(jd: float, candid: int | None = None, **changes: Any) -> Record:
    """Make a row of ``prv_candidates``: a detection, or an upper limit if it has no candid."""
    mag = None if candid is None else 18.5
    row = {"jd": jd, "fid": 1, "pid": int(jd), "programid": 1, "candid": candid, "magpsf": mag, "sigmapsf": mag and 0.1}
    return row | {"diffmaglim": 20.0} | changes


def forced(jd: float, flux: float = 500.0, **changes: Any) -> Record:
    """Make a row of ``fp_hists``."""
    row = {"jd": jd, "fid": 1, "pid": int(jd), "programid": 1, "procstatus": "0", "magzpsci": 26.0}
    return row | {"forcediffimflux": flux, "forcediffimfluxunc": 20.0} | changes


class Factory:
    """Makes packets with consecutive offsets."""

    def __init__(self) -> None:
        self.offset = 0

    def raw(self, value: bytes) -> Packet:
        self.offset += 1
        return Packet("ztf_20230225_programid1", 0, self.offset - 1, 1_700_000_000_000 + self.offset, value)

    def __call__(self, candid: int, name: str = "ZTF23aaaaaaa", jd: float = 2460000.5, **changes: Any) -> Packet:
        return self.raw(encode(alert_record(candid, name, jd, **changes)))


@pytest.fixture
def packet() -> Factory:
    return Factory()


@pytest.fixture
def make() -> Any:
    """The row makers, as ``make.detection`` and so on."""

    class Makers:
        pass

    makers: Any = Makers()
    makers.detection, makers.forced, makers.encode, makers.record = detection, forced, encode, alert_record
    return makers


@pytest.fixture
def context(settings: Settings, mongo: MongoClient[Record]) -> Iterator[WorkerContext]:
    """What a worker has, without models and catalogs."""
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    survey = get("ZTF")
    opened = WorkerContext.open(settings, survey)
    indexes.ensure(opened.data, settings, survey)
    yield opened
    opened.data.client.close()
