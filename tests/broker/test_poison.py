"""Messages that are meant to hurt: none takes much time or memory, each has a reason, and its neighbours come through.

They go through the real stages with a model that looks at stamps, and MongoDB.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pymongo import MongoClient

from kowalski.archive import indexes, names
from kowalski.broker import avro, avro_limits
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Batch, Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import Settings
from kowalski.ml import ready
from kowalski.surveys import SURVEYS, get
from kowalski.surveys.base import PacketError
from kowalski.testing import simulator
from kowalski.testing.fuzz import Fuzzer, Tally

SURVEY = get("ZTF")
TOPIC = "ztf_20231012_programid1"
MEGABYTE = 2**20
GROWTH_MB = 1500
"""By how much one message may make the process grow at most: a worker has 2 GB."""
Record = dict[str, Any]
Edit = Callable[[Record], None]


@pytest.fixture(scope="module")
def writer() -> Any:
    return simulator.writer("ZTF")


@pytest.fixture(scope="module")
def good() -> list[Record]:
    return [each.packet for each in simulator.packets(12, "ZTF", seed=5, repeats=0.0)]


@pytest.fixture
def context(settings: Settings, mongo: MongoClient[Record], tmp_path: Path) -> Iterator[WorkerContext]:
    """What a worker has, with a model of stamps and of a number."""
    settings.path.models = tmp_path
    onnx.save(_mean_of_stamps(), str(tmp_path / "mean.v1.onnx"))
    section = settings.ml.of("ZTF").model_dump()
    trial = {"version": "v1", "format": "onnx", "triplet": True, "feature_names": False}
    declared = {"use_tensorflow": False, "ZTF": section | {"models": {"mean": trial}}}
    settings.ml = type(settings.ml).model_validate(declared)
    ready.ensure_ready(settings, lambda *_: None)
    settings.database.xmatch["ZTF"] = {}
    opened = WorkerContext.open(settings, SURVEY)
    assert opened.scorer.loaded == {"mean": "v1"}, opened.scorer.missing
    indexes.ensure(opened.data, settings, SURVEY)
    yield opened
    opened.data.client.close()


def _mean_of_stamps() -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 63, 63, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    nodes = [helper.make_node("Flatten", ["images"], ["flat"])]
    nodes.append(helper.make_node("ReduceMean", ["flat"], ["score"], axes=[1], keepdims=1))
    graph = helper.make_graph(nodes, "mean", [images], [score])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def through(context: WorkerContext, values: list[bytes]) -> dict[int, str]:
    """Take messages through all stages; returns what was refused: position -> reason."""
    packets = [Packet(TOPIC, 0, number, 1_700_000_000_000, value) for number, value in enumerate(values)]
    process(packets, context)
    return {letter["_id"]["offset"]: letter["reason"] for letter in context.system[names.DEAD_LETTERS].find()}


def is_whole(context: WorkerContext, records: list[Record]) -> bool:
    """Whether these alerts are stored with their scores and objects."""
    candids, objects = [each["candid"] for each in records], {each["objectId"] for each in records}
    alerts = context.data[SURVEY.alerts].count_documents(
        {"_id": {"$in": candids}, "classifications.mean": {"$exists": True}}
    )
    known = context.data[SURVEY.objects].count_documents({"_id": {"$in": list(objects)}})
    return alerts == len(candids) and known == len(objects)


@cache
def squeezed(megabytes: int) -> bytes:
    """Deflate so many megabytes of zeros."""
    squeeze, zeros = zlib.compressobj(1, zlib.DEFLATED, -15), bytes(MEGABYTE)
    return b"".join([*(squeeze.compress(zeros) for _ in range(megabytes)), squeeze.flush()])


def bomb() -> bytes:
    """Make a gzip file of a few megabytes that unpacks to a gigabyte."""
    return b"\x1f\x8b\x08".ljust(10, b"\x00") + squeezed(1024) + bytes(8)


def set_stamp(data: bytes) -> Edit:
    def edit(record: Record) -> None:
        record["cutoutScience"] = record["cutoutScience"] | {"stampData": data}

    return edit


def everywhere(number: float) -> Edit:
    """Put a number into every field that takes one and need not be right, of the candidate and of each earlier row."""

    def edit(record: Record) -> None:
        for row in (record["candidate"], *(record["prv_candidates"] or ())):
            row |= {key: number for key, old in row.items() if type(old) is float and key not in ("jd", "ra", "dec")}

    return edit


def set_candidate(**changes: Any) -> Edit:
    def edit(record: Record) -> None:
        record["candidate"] |= changes

    return edit


def lengthen(rows: int) -> Edit:
    def edit(record: Record) -> None:
        (row,) = record["prv_candidates"][:1]
        record["prv_candidates"] = [row | {"jd": row["jd"] - number, "candid": None} for number in range(rows)]

    return edit


FITS = gzip.compress(b"SIMPLE  =                    T".ljust(2880))
READ = {
    "a zip bomb of a gigabyte in a stamp": set_stamp(bomb()),
    "a stamp that is cut": set_stamp(FITS[:20]),
    "a stamp without a byte": set_stamp(b""),
    "a stamp of 10 MB that is no image": set_stamp(bytes(10 * MEGABYTE)),
    "NaN everywhere": everywhere(math.nan),
    "infinity everywhere": everywhere(math.inf),
    "minus infinity everywhere": everywhere(-math.inf),
    "a jd before all time": set_candidate(jd=-1e300),
    "a jd after all time": set_candidate(jd=1e300),
}
"""What is odd and yet an alert: it is stored, without what can't be had of it."""
REFUSED = {
    "a jd that is none": (set_candidate(jd=math.nan), "impossible jd"),
    "a place that is none": (set_candidate(ra=math.inf), "impossible jd"),
    "a declination beyond the pole": (set_candidate(dec=91.0), "impossible jd"),
    "a hundred thousand rows of history": (lengthen(100_000), "BSONObj size"),
    "20 MB of a stamp": (set_stamp(np.random.default_rng(1).bytes(19 * MEGABYTE)), "BSONObj size"),
}
"""What can't be stored, and a word of the reason."""


@pytest.mark.timeout(240)
def test_what_is_odd_is_stored_or_refused_and_its_neighbours_come_through(
    context: WorkerContext, writer: Any, good: list[Record]
) -> None:
    """Each kind of poison in a batch of its own between good alerts: all of them within bounds of memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edits = {**READ, **{name: edit for name, (edit, _) in REFUSED.items()}}
    for turn, (name, edit) in enumerate(edits.items()):
        context.data[SURVEY.alerts].delete_many({})
        context.system[names.DEAD_LETTERS].delete_many({})
        records = [copied(record) for record in good[:5]]
        victim = next(number for number in (2, 3, 1) if records[number]["prv_candidates"])
        edit(records[victim])
        refused = through(context, [writer.encode(record) for record in records])
        rest = [record for number, record in enumerate(records) if number != victim]
        assert is_whole(context, rest), (turn, name)
        if name in READ:
            assert refused == {}, name
            assert context.data[SURVEY.alerts].count_documents({"_id": records[victim]["candid"]}) == 1, name
        else:
            assert list(refused) == [victim], name
            assert REFUSED[name][1] in refused[victim], (name, refused)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < GROWTH_MB


def copied(record: Record) -> Record:
    """Copy as deep as the edits reach."""
    rows = record["prv_candidates"]
    return record | {
        "candidate": dict(record["candidate"]),
        "prv_candidates": None if rows is None else [dict(row) for row in rows],
    }


def container(schema: Any, *blocks: tuple[int, bytes], codec: str = "null") -> bytes:
    """Write a container file block by block, so that it may say anything: (number of records, their bytes)."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    metadata = {"avro.codec": codec.encode(), "avro.schema": text.encode()}
    pairs = b"".join(long(len(key)) + key.encode() + long(len(value)) + value for key, value in metadata.items())
    sync = b"S" * avro.SYNC_SIZE
    body = b"".join(long(count) + long(len(data)) + data + sync for count, data in blocks)
    return avro.MAGIC + long(len(metadata)) + pairs + long(0) + sync + body


def long(number: int) -> bytes:
    """Write a number as Avro does."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, "long", number)
    return stream.getvalue()


def record_of(**fields: Any) -> Record:
    return {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def array_of(items: Any) -> Record:
    return {"type": "array", "items": items}


FIXED = {"type": "fixed", "name": "f", "size": 64 * MEGABYTE}
NODE = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}
NESTED = '{"type": "array", "items": ' * 20_000 + '"int"' + "}" * 20_000
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "records without content": (lambda: container(record_of(), (2**40, b"")), "without content"),
    "items without content": (
        lambda: container(record_of(a=array_of("null")), (1, long(2**40) + long(0))),
        "items without content",
    ),
    "items of records without content": (
        lambda: container(record_of(a=array_of({"type": "record", "name": "q", "fields": []})), (1, long(2**40))),
        "items without content",
    ),
    "a schema that contains itself": (lambda: container(NODE, (1, b"\x02" * 200_000 + b"\x00")), "contains itself"),
    "a schema nested deeply": (lambda: container(NESTED, (1, b"\x00")), "RecursionError"),
    "a header of 3 MB": (lambda: container(record_of(a="int") | {"doc": "x" * 3 * MEGABYTE}, (1, b"\x02")), "header"),
    "millions of tiny records": (
        lambda: container(record_of(a=array_of(record_of(b="int") | {"name": "q"})), (1, bytes(19 * MEGABYTE))),
        "GB of objects",
    ),
    "a block that expands to a gigabyte": (
        lambda: container(record_of(a="bytes"), (1, squeezed(1024)), codec="deflate"),
        "expands to more",
    ),
    "blocks that expand to gigabytes together": (
        lambda: container(record_of(a=FIXED), *[(1, squeezed(64))] * 20, codec="deflate"),
        "its blocks expand to more",
    ),
    "a length beyond the end": (lambda: container(record_of(a="bytes"), (1, long(2**40) + b"abc")), "EOFError"),
    "a negative count": (lambda: container(record_of(a="int"), (-5, b"\x02")), "sync marker"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_message_that_would_become_too_much_is_refused_at_once(name: str) -> None:
    make, reason = BOMBS[name]
    value = make()
    begun = time.process_time()
    with pytest.raises(PacketError, match=reason):
        Decoder().records(value)
    assert time.process_time() - begun < 60  # they would take hours, or end the process


@pytest.mark.parametrize("survey", [name for name, survey in SURVEYS.items() if survey.simulator])
def test_no_survey_comes_near_the_bounds(survey: str) -> None:
    """A message as large as Kafka takes is decoded, whatever it holds."""
    schema = fastavro.parse_schema(simulator.writer(survey).schema, _ignore_default_error=True)
    avro_limits.check(20 * MEGABYTE, avro_limits.ratio(schema))


@pytest.mark.parametrize("survey", [name for name, survey in SURVEYS.items() if survey.simulator])
def test_damaged_messages_are_read_or_refused(survey: str) -> None:
    tally = Tally()
    Fuzzer(get(survey), seed=3).run(300, tally)
    assert tally.failures == []
    assert tally.tried == 300
    assert {"refused", "read, without all stamps"} <= tally.outcomes.keys()


def test_the_fuzzer_finds_what_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that fails in a way of its own, and one that says nothing."""
    fuzzer, tally = Fuzzer(SURVEY, seed=3), Tally()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kowalski.testing.fuzz.decode", fail)
    fuzzer.run(1, tally)
    assert [reason.partition(":")[0] for reason, _ in tally.failures] == ["ZeroDivisionError"]
    monkeypatch.setattr("kowalski.testing.fuzz.decode", lambda packets, survey, _: Batch(survey))
    fuzzer.run(1, tally)
    assert {reason for reason, _ in tally.failures[1:]} == {
        "it vanished without a reason",
        "the message beside it did not come through",
    }
