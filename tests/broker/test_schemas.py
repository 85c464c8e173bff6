"""Messages in wire format, and where their schemas come from: a folder, a registry, or nowhere."""

from __future__ import annotations

import io
import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski import surveys
from kowalski.archive import names
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.broker.schemas import RegistryError, SchemaError, SchemaStore
from kowalski.cli import deadletters
from kowalski.cli.main import build
from kowalski.config import Settings
from kowalski.surveys.base import PacketError
from kowalski.testing import services, simulator
from kowalski.testing.simulator.lsst import SCHEMA

Record = dict[str, Any]
LSST = surveys.get("LSST")
NUMBER = 1000


class Registry:
    """A schema registry of the Confluent kind; ``broken`` makes it answer with an error of its own."""

    def __init__(self) -> None:
        self.schemas: dict[int, Any] = {NUMBER: json.loads(SCHEMA.read_text())}
        self.asked: list[str] = []
        self.broken = False
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                status, body = (503, "busy") if registry.broken else registry.answer(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[int, Any]:
        match path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self.schemas:
                return 200, {"schema": json.dumps(self.schemas[int(number)])}
            case ["subjects"]:
                return 200, ["alert-packet"]
            case ["subjects", _, "versions"]:
                return 200, list(self.schemas)
            case ["subjects", _, "versions", number]:
                return 200, {"id": int(number)}
        return 404, {"error_code": 40403, "message": "Schema not found"}


@pytest.fixture
def registry() -> Iterator[Registry]:
    found = Registry()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def wire(record: Record, schema: Any = None, number: int = NUMBER) -> bytes:
    file = io.BytesIO(struct.pack(">xI", number))
    file.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema or json.loads(SCHEMA.read_text())), record)
    return file.getvalue()


@pytest.fixture(scope="module")
def packets() -> list[Record]:
    return [each.packet for each in simulator.packets(6, "LSST")]


# Decoding


def test_a_schema_is_fetched_once_and_then_kept(tmp_path: Path, registry: Registry, packets: list[Record]) -> None:
    decoder = Decoder(SchemaStore(LSST, tmp_path, registry.url))
    alerts = [LSST.shape(decoder.records(wire(packet))[0]) for packet in packets]
    assert [alert.candid for alert in alerts] == [packet["diaSourceId"] for packet in packets]
    assert registry.asked == [f"/schemas/ids/{NUMBER}"]
    registry.broken = True
    assert Decoder(SchemaStore(LSST, tmp_path, registry.url)).records(wire(packets[0]))


def test_a_later_version_with_more_fields_needs_no_code(
    tmp_path: Path, registry: Registry, packets: list[Record]
) -> None:
    later = json.loads(SCHEMA.read_text().replace("v10_0", "v11_0"))
    later["fields"].append({"name": "novelty", "type": ["null", "string"]})
    source = next(field for field in later["fields"] if field["name"] == "diaSource")["type"]
    source["fields"].insert(0, {"name": "surprise", "type": "double"})
    source["fields"] = [field for field in source["fields"] if field["name"] != "trailLength"]
    registry.schemas[1100] = later
    record = packets[0] | {"novelty": "new", "diaSource": packets[0]["diaSource"] | {"surprise": 0.5}}
    record["prvDiaSources"] = None
    decoder = Decoder(SchemaStore(LSST, tmp_path, registry.url))
    (read,) = decoder.records(wire(record, later, 1100))
    alert = LSST.shape(read)
    assert (alert.document["novelty"], alert.document["candidate"]["surprise"]) == ("new", 0.5)
    assert decoder.records(wire(packets[1]))  # an earlier version in between


def test_an_unknown_number_is_the_packets_fault(tmp_path: Path, registry: Registry) -> None:
    store = SchemaStore(LSST, tmp_path, registry.url)
    for _ in range(3):
        with pytest.raises(PacketError, match="schema 4242 is unknown to the registry"):
            Decoder(store).records(struct.pack(">xI", 4242) + b"body")
    assert len(registry.asked) == 1
    with pytest.raises(PacketError, match=r"schema 4242 is not in .*schemas add"):
        Decoder(SchemaStore(LSST, tmp_path)).records(struct.pack(">xI", 4242) + b"body")
    with pytest.raises(PacketError, match="schema 4242"):
        Decoder().records(struct.pack(">xI", 4242) + b"body")


def test_a_registry_that_fails_is_nobodys_fault(tmp_path: Path, registry: Registry, packets: list[Record]) -> None:
    registry.broken = True
    decoder = Decoder(SchemaStore(LSST, tmp_path, registry.url))
    with pytest.raises(RegistryError, match="503"):
        decoder.records(wire(packets[0]))
    registry.broken = False
    assert decoder.records(wire(packets[0]))
    with pytest.raises(RegistryError, match="does not answer"):
        SchemaStore(LSST, tmp_path, "http://127.0.0.1:9").text(900)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 100, -1])
def test_a_cut_or_longer_message_is_refused(tmp_path: Path, packets: list[Record], cut: int) -> None:
    store = SchemaStore(LSST, tmp_path)
    store.add(SCHEMA)
    whole = wire(packets[0])
    for value in (whole[:cut], whole + b"\x00"):
        with pytest.raises(PacketError):
            Decoder(store).records(value)


# The pipeline


@pytest.fixture
def context(settings: Settings, mongo: MongoClient[Record], tmp_path: Path) -> Iterator[WorkerContext]:
    settings.path.data = tmp_path
    opened = WorkerContext.open(settings, LSST)
    yield opened
    opened.data.client.close()


def message(value: bytes, offset: int = 0) -> Packet:
    return Packet("lsst_20260305", 0, offset, 1_700_000_000_000, value)


def test_batches_wait_for_the_registry(context: WorkerContext, registry: Registry, packets: list[Record]) -> None:
    context.decoder = Decoder(SchemaStore(LSST, context.settings.path.data, registry.url))
    batch = [message(wire(packet), offset) for offset, packet in enumerate(packets)]
    registry.broken = True
    with pytest.raises(RegistryError):
        process(batch, context)
    assert context.system[names.DEAD_LETTERS].count_documents({}) == 0
    registry.broken = False
    assert process(batch, context).alerts == len(packets)


def test_each_record_of_a_message_is_an_alert_of_its_own(context: WorkerContext, packets: list[Record]) -> None:
    bad = [packet | {"diaSource": packet["diaSource"] | {"ra": 400.0}} for packet in packets[2:4]]
    file = io.BytesIO()
    fastavro.writer(file, json.loads(SCHEMA.read_text()), [packets[0], bad[0], packets[1], bad[1], packets[4]])
    report = process([message(file.getvalue(), 7), message(b"rubbish", 8)], context)
    assert (report.alerts, report.rejected) == (3, 3)
    where = {"topic": "lsst_20260305", "partition": 0, "offset": 7}
    letters = list(context.system[names.DEAD_LETTERS].find())
    assert [letter["_id"] for letter in letters] == [
        {**where, "record": 1}, {**where, "record": 3}, {**where, "offset": 8}
    ]  # fmt: skip
    assert all("impossible" in letter["reason"] for letter in letters[:2])
    texts = [deadletters._text(letter["_id"]) for letter in letters]
    assert texts == ["lsst_20260305:0:7:1", "lsst_20260305:0:7:3", "lsst_20260305:0:8"]
    assert [deadletters._where(text) for text in texts] == [letter["_id"] for letter in letters]
    # A second try of one of them is of that one.
    again = process([Packet(*where.values(), 0, bytes(letters[0]["value"]), 1)], context)
    assert (again.alerts, again.rejected) == (0, 1)
    assert context.system[names.DEAD_LETTERS].count_documents({}) == 3


# The command


def test_list_fetch_and_add(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.path.data = tmp_path / "data"
    settings.surveys["LSST"].schemas.registry = registry.url
    for name, value in services.environment(settings).items():
        monkeypatch.setenv(name, value)
    run = lambda *words: CliRunner().invoke(build(), ["schemas", *words])  # noqa: E731

    assert "0 schemas" in run("list").output
    assert f"schema {NUMBER} is in" in run("fetch").output
    unknown = run("fetch", "4242")
    assert (unknown.exit_code, "4242 is unknown" in unknown.output) == (1, True)
    other = tmp_path / "other.avsc"
    other.write_text(json.dumps({"type": "record", "name": "x", "fields": [{"name": "a", "type": "int"}]}))
    with pytest.raises(SchemaError, match="does not tell the schema's number"):
        SchemaStore.of(settings, LSST).add(other)
    assert run("add", str(other), "--id", "5").exit_code == 0
    assert run("add", str(SCHEMA), str(other), "--id", "5").exit_code == 2
    (tmp_path / "bad.avsc").write_text("{")
    with pytest.raises(SchemaError, match="holds no schema"):
        SchemaStore.of(settings, LSST).add(tmp_path / "bad.avsc")
    listed = run("list").output
    assert "lsst.v10_0.alert" in listed
    assert "2 schemas" in listed
