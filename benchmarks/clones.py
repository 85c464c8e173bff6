"""Clones of Rubin's sample alerts, in their originals' form: each of a new object, or a later visit to one."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from kowalski import surveys
from kowalski.broker.avro import MAGIC, Decoder
from kowalski.broker.schemas import SchemaStore

Record = dict[str, Any]
MESSAGES = ("ocf_v9_0", "ocf_v10_0_fink", "wire_format")
"""Folders with real messages; of the wire format only those with stamps are."""
REVISIT_DAYS = 0.02


@dataclass(slots=True)
class Original:
    """A sample alert and what is needed to write another one like it."""

    record: Record
    schema: Any
    number: int | None
    """Of its schema in the wire format; None for a container file."""

    def encode(self, record: Record) -> bytes:
        """Write ``record`` as a message."""
        file = io.BytesIO()
        if self.number is None:
            fastavro.writer(file, self.schema, [record])
        else:
            file.write(struct.pack(">xI", self.number))
            fastavro.schemaless_writer(file, self.schema, record)
        return file.getvalue()


def add_schemas(data: Path, folder: Path) -> None:
    """Keep the sample data's schemas where an instance finds them."""
    store = SchemaStore(surveys.get("LSST"), folder)
    for file in sorted((data / "lsst_alerts" / "schema").glob("*/*.alert.avsc")):
        store.add(file)


def originals(data: Path, schemas: Path) -> list[Original]:
    """Read the sample alerts that have stamps."""
    store = SchemaStore(surveys.get("LSST"), schemas)
    decoder = Decoder(store)
    found: list[Original] = []
    for path in (path for name in MESSAGES for path in sorted((data / "lsst_alerts" / name).glob("*.avro"))):
        value = path.read_bytes()
        if value.startswith(MAGIC):
            number, schema = None, fastavro.reader(io.BytesIO(value)).writer_schema
        else:
            number = int.from_bytes(value[1:5], "big")
            schema = fastavro.parse_schema(json.loads(store.text(number)))
        found += [
            Original(record, schema, number) for record in decoder.records(value) if record["cutoutScience"] is not None
        ]
    return found


def clones(data: Path, schemas: Path, n: int, repeats: float, seed: int = 1) -> Iterator[bytes]:
    """Make ``n`` messages of one alert each, ``repeats`` of them of an object of which there was one before."""
    random = np.random.default_rng(seed)
    templates = originals(data, schemas)
    latest: dict[int, Record] = {}
    for number in range(n):
        which = number % len(templates)
        original, before = templates[which], latest.get(which)
        revisit = before is not None and random.random() < repeats
        record = _visit(before, number) if revisit and before else _new(original.record, number, random)
        latest[which] = record
        yield original.encode(record)


def _new(template: Record, number: int, random: np.random.Generator) -> Record:
    """Make an alert of another object elsewhere: everything that has an identifier gets a new one."""
    record = copy.copy(template)
    shift = int(random.integers(1, 2**40)) * 4096
    turn = float(random.uniform(0.0, 360.0))
    for name in ("diaSource", "diaObject"):
        record[name] = _moved(record[name], shift, turn)
    for name in ("prvDiaSources", "prvDiaForcedSources"):
        record[name] = record[name] and [_moved(row, shift, turn) for row in record[name]]
    record["diaSource"]["diaSourceId"] = 2**60 + number
    return record


def _moved(part: Record | None, shift: int, turn: float) -> Record | None:
    if part is None:
        return None
    changed = {"ra": (part["ra"] + turn) % 360.0} if part.get("ra") is not None else {}
    for name in ("diaObjectId", "ssObjectId", "diaSourceId", "diaForcedSourceId"):
        if part.get(name):
            changed[name] = (part[name] + shift) % 2**62
    return part | changed


def _visit(before: Record, number: int) -> Record:
    """Make the object's next alert, whose history has the one before."""
    record = copy.copy(before)
    source = before["diaSource"]
    record["prvDiaSources"] = [*(before["prvDiaSources"] or ()), source]
    later = {"diaSourceId": 2**60 + number, "midpointMjdTai": source["midpointMjdTai"] + REVISIT_DAYS}
    record["diaSource"] = source | later
    return record
