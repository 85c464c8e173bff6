"""Catalogs that are known by name: ``declarations.yaml`` says of each what an operator would else say by options."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from kowalski.ingesters.columns import Columns
from kowalski.ingesters.enrichment import Enrichment
from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.writing import Mode

IndexKeys = list[tuple[str, Literal[1, -1]]]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Table(_Declared):
    """One collection that is made of a catalog's files."""

    collection: str
    format: str | None = None
    names: tuple[str, ...] = ()
    columns: Columns = Columns()
    mode: Mode = Mode.INSERT
    indexes: dict[str, IndexKeys] = {}
    enriched: Enrichment | None = None

    def named(self, tag: str | None) -> Table:
        """Give it with the tag in its collection's name.

        Raises
        ------
        IngestError
            If it needs a tag.
        """
        if tag is None and "{tag}" in self.collection:
            raise IngestError(f"{self.collection}: which release is it? Say so by --tag, e.g. --tag DR5")
        changes: dict[str, Any] = {"collection": self.collection.format(tag=tag)}
        if self.enriched is not None:
            of = self.enriched.light_curves.format(tag=tag)
            changes["enriched"] = self.enriched.model_copy(update={"light_curves": of})
        return self.model_copy(update=changes)


class Declaration(_Declared):
    """A catalog."""

    about: str
    files: str
    tables: list[Table]


@cache
def known() -> dict[str, Declaration]:
    """Give all declarations, by name."""
    text = resources.files(__package__).joinpath("declarations.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return {name: Declaration.model_validate(content) for name, content in found.items()}
