"""How the schemas of a survey's packets evolve: what is new in them is stored like the rest, told once, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from kowalski.archive import schema_changes
from kowalski.archive.client import Document
from kowalski.broker.avro import Decoder
from kowalski.surveys.base import Survey

log = logging.getLogger(__name__)


def watch(decoder: Decoder, survey: Survey, system: Database[Document]) -> None:
    """Compare the schemas that the decoder has met for the first time with those that the survey has had so far.

    Raises
    ------
    pymongo.errors.PyMongoError
        If MongoDB does not answer; they are compared the next time.
    """
    while decoder.unseen:
        schema = decoder.unseen.pop()
        try:
            changes = schema_changes.note(system, survey.name, dict.fromkeys(fields_of(schema)))
        except PyMongoError:
            decoder.unseen.append(schema)
            raise
        for change in changes:
            log.warning("the schema of %s has changed: %s", survey.name, change)


def fields_of(schema: Any) -> Iterator[tuple[str, str]]:
    """List the fields of a schema as ``fastavro.parse_schema`` gives it: dotted name and type, null left out."""
    return _fields(schema, "", {}, frozenset())


def _fields(schema: Any, path: str, named: dict[str, Any], above: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Go through ``schema``, with the records met so far by name and the names of those it lies in."""
    if isinstance(schema, list):
        for each in schema:
            if each != "null":
                yield from _fields(each, path, named, above)
        return
    if isinstance(schema, str) and schema in named and schema not in above:
        schema = named[schema]
    if not isinstance(schema, Mapping):
        yield path, str(schema)
        return
    kind = schema["type"]
    if kind in ("record", "error"):
        named[schema["name"]] = schema
        for field in schema["fields"]:
            below = f"{path}.{field['name']}" if path else field["name"]
            yield from _fields(field["type"], below, named, above | {schema["name"]})
    elif kind in ("array", "map"):
        yield from _fields(schema["items" if kind == "array" else "values"], path, named, above)
    elif isinstance(kind, str):
        yield path, str(schema.get("logicalType", kind))
    else:
        yield from _fields(kind, path, named, above)
