"""Schemas change while alerts flow: what is new is stored, told once and counted, and nothing is refused for it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import fastavro
import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from kowalski import surveys
from kowalski.archive import names, schema_changes
from kowalski.broker import evolution, pipeline
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.config import Settings
from kowalski.surveys import Survey
from kowalski.testing import simulator

Record = dict[str, Any]
SIMULATED = [survey for survey in surveys.SURVEYS.values() if survey.simulator is not None]
Edit = Callable[[Record, Record], None]
"""Changes a schema and a record in the same way."""


@pytest.fixture(params=SIMULATED, ids=lambda survey: survey.name)
def context(request: pytest.FixtureRequest, settings: Settings, mongo: MongoClient[Record]) -> Iterator[WorkerContext]:
    """A worker of each survey, without models and catalogs."""
    survey: Survey = request.param
    settings.ml.of(survey.name).models.clear()
    settings.database.xmatch[survey.name] = {}
    opened = WorkerContext.open(settings, survey)
    yield opened
    opened.data.client.close()


@cache
def alerts_of(name: str) -> list[Record]:
    return [simulated.packet for simulated in simulator.packets(10, name)]


def made(survey: Survey, number: int, edit: Edit | None = None) -> Packet:
    """One simulated packet, as if the survey had changed its schema by ``edit``."""
    schema, record = json.loads(json.dumps(simulator.writer(survey.name).schema)), dict(alerts_of(survey.name)[number])
    if edit is not None:
        edit(schema, record)
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema, _ignore_default_error=True), [record])
    return Packet("topic", 0, number, 1_700_000_000_000, file.getvalue())


def record_type(kind: Any) -> Record:
    """The record of a type that may be null."""
    found: Record = next(each for each in kind if isinstance(each, dict)) if isinstance(kind, list) else kind
    return found


def field_of(schema: Record, name: str) -> Record:
    found: Record = next(field for field in schema["fields"] if field["name"] == name)
    return found


def is_text(field: Record) -> bool:
    return "string" in (field["type"] if isinstance(field["type"], list) else [field["type"]])


def added(schema: Record, record: Record) -> None:
    schema["fields"].append({"name": "weather", "type": ["null", {"type": "map", "values": "double"}]})
    record["weather"] = {"humidity": 0.3}


def changed(survey: Survey) -> tuple[str, Edit]:
    """Make a number of a field that was text."""
    fields = simulator.writer(survey.name).schema["fields"]
    name = next(field["name"] for field in fields if is_text(field) and field["name"] not in survey.required)

    def edit(schema: Record, record: Record) -> None:
        field_of(schema, name).update(type="long", default=0)
        record[name] = 7

    return name, edit


def oddly(survey: Survey) -> Edit:
    """Make text of everything that need not be there; histories are null, as rows may be of the same type."""

    def edit(schema: Record, record: Record) -> None:
        for history in (name for name, value in record.items() if isinstance(value, list)):
            record[history] = None
        for holder in sorted({name.split(".")[0] for name in survey.required if "." in name}):
            record[holder] = dict(record[holder])
            for field in record_type(field_of(schema, holder)["type"])["fields"]:
                if f"{holder}.{field['name']}" not in survey.required:
                    field.update(type="string", default="")
                    record[holder][field["name"]] = "odd"

    return edit


def test_new_and_changed_fields_are_stored_told_once_and_counted(
    context: WorkerContext, caplog: pytest.LogCaptureFixture
) -> None:
    survey = context.survey
    with caplog.at_level(logging.WARNING, "kowalski.broker.evolution"):
        assert pipeline.process([made(survey, 1)], context).rejected == 0
        assert schema_changes.listing(context.system) == {}
        assert not caplog.records
        name, edit = changed(survey)
        packets = [made(survey, 2, added), made(survey, 3, added), made(survey, 4, edit)]
        assert pipeline.process(packets, context).rejected == 0
        context.decoder = Decoder()  # another worker
        assert pipeline.process(packets, context).rejected == 0
    changes = [(one["field"], one["type"], one["was"]) for one in schema_changes.listing(context.system)[survey.name]]
    assert sorted(changes) == [(name, "long", ["string"]), ("weather", "double", [])]
    assert len(caplog.records) == 2
    assert any("weather (double) is new" in record.getMessage() for record in caplog.records)
    stored = list(context.data[survey.alerts].find().sort("_id"))
    assert [one.get("weather") for one in stored].count({"humidity": 0.3}) == 2
    assert [one[name] for one in stored].count(7) == 1


def test_whatever_is_not_required_may_be_of_any_type(context: WorkerContext) -> None:
    survey = context.survey
    assert pipeline.process([made(survey, 1, oddly(survey)), made(survey, 2)], context).rejected == 0
    assert pipeline.process([made(survey, 3, oddly(survey))], context).rejected == 0
    assert context.data[survey.alerts].count_documents({}) == 3


def test_a_missing_required_field_is_named_in_the_dead_letter(context: WorkerContext) -> None:
    survey = context.survey
    packets = []
    for number, name in enumerate(survey.required, 1):

        def without(schema: Record, record: Record, name: str = name) -> None:
            *outer, leaf = name.split(".")
            for part in outer:
                schema, record[part] = record_type(field_of(schema, part)["type"]), dict(record[part])
                record = record[part]
            schema["fields"] = [field for field in schema["fields"] if field["name"] != leaf]
            del record[leaf]

        packets.append(made(survey, number, without))
    report = pipeline.process([*packets, made(survey, 9)], context)
    assert (report.rejected, report.alerts) == (len(packets), 1)
    letters = context.system[names.DEAD_LETTERS].find().sort("_id.offset")
    assert [letter["reason"] for letter in letters] == [f"required field {name} is missing" for name in survey.required]


def test_changes_wait_for_mongodb(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise AutoReconnect("connection refused")

    monkeypatch.setattr(schema_changes, "note", away)
    with pytest.raises(AutoReconnect):
        pipeline.process([made(context.survey, 1)], context)
    monkeypatch.undo()
    pipeline.process([made(context.survey, 1)], context)
    assert context.system[names.SCHEMAS].count_documents({"_id": context.survey.name}) == 1


def test_fields_of_a_schema_with_references() -> None:
    stamp = {"type": "record", "name": "s.stamp", "fields": [{"name": "data", "type": "bytes"}]}
    node = {"type": "record", "name": "s.node", "fields": [{"name": "next", "type": ["null", "s.node"]}]}
    schema = {
        "type": "record",
        "name": "s.alert",
        "fields": [
            {"name": "first", "type": ["null", stamp]},
            {"name": "second", "type": ["null", "s.stamp"]},
            {"name": "rows", "type": ["null", {"type": "array", "items": node}]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "either", "type": ["int", "string", "null"]},
        ],
    }
    assert list(evolution.fields_of(fastavro.parse_schema(schema))) == [
        ("first.data", "bytes"),
        ("second.data", "bytes"),
        ("rows.next", "s.node"),
        ("at", "timestamp-micros"),
        ("either", "int"),
        ("either", "string"),
    ]
