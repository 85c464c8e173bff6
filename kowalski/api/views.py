"""Views: collections that MongoDB computes of others, which might show what the others must not.

Only whoever may write to the data database can make one; what it shows is found out here, not taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from kowalski.api import sandbox
from kowalski.archive.client import Document


class Views:
    """The views of a database. A name that was a collection once is taken for one ever after; others are looked up."""

    def __init__(self, data: AsyncDatabase[Document]) -> None:
        self._data = data
        self._collections: frozenset[str] = frozenset()

    async def sources(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """Find the views among ``names``, and for each what it reads, directly or by other views."""
        wanted = set(names) - self._collections
        if not wanted:
            return {}
        reads: dict[str, frozenset[str]] = {}
        collections: set[str] = set()
        async for entry in await self._data.list_collections():
            if entry["type"] == "view":
                reads[entry["name"]] = _reads(entry["options"])
            else:
                collections.add(entry["name"])
        self._collections = frozenset(collections)
        return {name: _all_sources(name, reads) for name in wanted & reads.keys()}


def _reads(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({options["viewOn"], *sandbox.targets(options.get("pipeline", []))})


def _all_sources(name: str, reads: Mapping[str, frozenset[str]]) -> frozenset[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        new = reads.get(todo.pop(), frozenset()) - found
        found |= new
        todo += new
    return frozenset(found)
