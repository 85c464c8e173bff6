"""Schemas of Confluent's wire format: kept in a folder, one file per number, and fetched once from a registry.

The registry is one that speaks the Confluent Schema Registry's HTTP API
(https://docs.confluent.io/platform/current/schema-registry/develop/api.html). What it has once given is kept in the
folder, so it is asked once per schema, and a night goes on while it is away.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import httpx

from kowalski.config import Settings
from kowalski.surveys.base import PacketError, Survey

TIMEOUT_SECONDS = 10.0
MISSING_SECONDS = 60.0
"""How long a registry's word counts that it has no schema of some number."""


class RegistryError(Exception):
    """The registry does not do its part, now; the text says why. No packet is to blame."""


class SchemaError(Exception):
    """A file holds no schema that can be added; the text is one sentence for the operator."""


class Kept(NamedTuple):
    """A schema of the folder: its number, its full name, and how many fields its records have."""

    number: int
    name: str
    fields: int


class SchemaStore:
    """The schemas of one survey.

    Parameters
    ----------
    survey
        Whose schemas.
    folder
        Where they are kept, as ``<number>.avsc``.
    registry
        URL of the registry; None: there is only the folder.
    user
        Name and password for the registry, if it wants them.
    """

    def __init__(
        self, survey: Survey, folder: Path, registry: str | None = None, user: tuple[str, str] | None = None
    ) -> None:
        self._survey = survey
        self.folder = folder
        self.registry = registry
        self._user = user
        self._missing: dict[int, float] = {}

    @classmethod
    def of(cls, settings: Settings, survey: Survey) -> SchemaStore:
        """The store that the settings describe."""
        switch = settings.surveys.get(survey.name)
        declared = switch.schemas if switch is not None else None
        folder = settings.path.data / "schemas" / survey.name
        if declared is None:
            return cls(survey, folder)
        user = None if declared.username is None else (declared.username, declared.password or "")
        return cls(survey, declared.folder or folder, declared.registry, user)

    def text(self, number: int) -> str:
        """Give the schema with that number as JSON, everything that it refers to included.

        Raises
        ------
        PacketError
            If there is none: a packet that names it can't be read.
        RegistryError
            If it is not in the folder and the registry can't be asked.
        """
        try:
            return self._path(number).read_text()
        except FileNotFoundError:
            pass
        if self.registry is None:
            raise PacketError(
                f"its schema {number} is not in {self.folder}, and no registry is set:"
                f" `./kowalski.py schemas add --survey {self._survey.name} FILE`"
            )
        if time.monotonic() - self._missing.get(number, -MISSING_SECONDS) < MISSING_SECONDS:
            raise self._unknown(number)
        return self.fetch(number)

    def fetch(self, number: int) -> str:
        """Get a schema from the registry and keep it.

        Raises
        ------
        PacketError
            If the registry has no such schema.
        RegistryError
            If it does not answer as it should.
        """
        answer = self._get(f"/schemas/ids/{number}")
        if answer is None:
            self._missing = {**self._missing, number: time.monotonic()} if len(self._missing) < 1000 else {}
            raise self._unknown(number)
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str) or answer.get("references"):
            raise RegistryError(f"the registry {self.registry} gives no schema {number} that stands by itself")
        return self._keep(number, answer["schema"])

    def offered(self) -> list[int]:
        """Ask the registry for the numbers of all its schemas.

        Raises
        ------
        RegistryError
            If it does not answer as it should.
        """
        found: set[int] = set()
        for subject in self._get("/subjects") or ():
            for version in self._get(f"/subjects/{subject}/versions") or ():
                described = self._get(f"/subjects/{subject}/versions/{version}") or {}
                found.add(int(described["id"]))
        return sorted(found)

    def add(self, file: Path, number: int | None = None) -> Kept:
        """Keep the schema of a file; schemas that it refers to lie beside it, as ``<name>.avsc``.

        Parameters
        ----------
        number
            Its number in the wire format; None: as the survey derives it from the schema's name.

        Raises
        ------
        SchemaError
            If the file holds no schema, or nothing tells its number.
        """
        try:
            schema = _read(file)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, *_SCHEMA_ERRORS) as error:
            raise SchemaError(f"{file} holds no schema: {type(error).__name__}: {error}") from error
        name = schema.get("name", "") if isinstance(schema, dict) else ""
        chosen = self._survey.schema_number(name) if number is None else number
        if chosen is None:
            raise SchemaError(f"{file}: the name {name!r} does not tell the schema's number; give it with --id")
        self._keep(chosen, json.dumps(schema))
        return _described(chosen, schema)

    def kept(self) -> Iterator[Kept]:
        """Go through the schemas of the folder, by number."""
        paths = [path for path in self.folder.glob("*.avsc") if re.fullmatch("[0-9]+", path.stem)]
        for path in sorted(paths, key=lambda path: int(path.stem)):
            yield _described(int(path.stem), json.loads(path.read_text()))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.avsc"

    def _keep(self, number: int, text: str) -> str:
        """Write a schema so that whoever looks sees it whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        hidden = self.folder / f".{number}-{uuid.uuid4().hex}"
        hidden.write_text(text)
        os.replace(hidden, self._path(number))
        return text

    def _unknown(self, number: int) -> PacketError:
        return PacketError(f"its schema {number} is unknown to the registry {self.registry}")

    def _get(self, path: str) -> Any:
        """Ask the registry; None if there is no such thing."""
        if self.registry is None:
            raise RegistryError(f"no registry is set: surveys.{self._survey.name}.schemas.registry")
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        try:
            answer = httpx.get(
                self.registry.rstrip("/") + path, auth=self._user, headers=headers, timeout=TIMEOUT_SECONDS
            )
            if answer.status_code == httpx.codes.NOT_FOUND and _says_not_found(answer):
                return None
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise RegistryError(f"the registry {self.registry} does not answer as it should: {error}") from error


_SCHEMA_ERRORS = (
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
    fastavro.repository.SchemaRepositoryError,
)


def _read(file: Path) -> Any:
    """Read a schema with all that it refers to."""
    schema = json.loads(file.read_text())
    try:
        fastavro.parse_schema(schema, _ignore_default_error=True)
    except fastavro.schema.UnknownType:
        return fastavro.schema.load_schema(str(file), _write_hint=False)
    return schema


def _says_not_found(answer: httpx.Response) -> bool:
    """Whether it is the registry that knows no such thing, and not a proxy that knows no registry."""
    found = answer.json()
    return isinstance(found, Mapping) and 40400 <= int(found.get("error_code", 0)) < 40500


def _described(number: int, schema: Any) -> Kept:
    if not isinstance(schema, dict):
        return Kept(number, str(schema), 0)
    space = schema.get("namespace")
    name = str(schema.get("name", "?"))
    return Kept(number, f"{space}.{name}" if space and "." not in name else name, len(schema.get("fields", ())))
