"""What watchers remember, so that a restart repeats nothing: how far each has got, and which files it has.

Both are in the system database: one document per watcher among the marks (``_id``: ``watcher:<name>``), and one per
file (``_id``: ``{watcher, file}``; ``size`` in bytes, ``md5``, ``at``, ``path``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document


class Memory:
    """What one watcher remembers."""

    def __init__(self, system: Database[Document], watcher: str) -> None:
        self._marks = system[names.MARKS]
        self._files = system[names.FETCHED_FILES]
        self._watcher = watcher
        self._mark = {"_id": f"watcher:{watcher}"}

    def load(self) -> Document:
        """Read how far it has got; empty when it has never run."""
        return self._marks.find_one(self._mark) or {}

    def save(self, **fields: Any) -> None:
        """Note how far it has got; fields that are not named stay as they are."""
        self._marks.update_one(self._mark, {"$set": fields}, upsert=True)

    def files(self) -> dict[str, Document]:
        """Read which files it has, by name (with folders below where it looks)."""
        found = self._files.find({"_id.watcher": self._watcher})
        return {each["_id"]["file"]: each for each in found}

    def add_file(self, name: str, size: int, md5: str, path: str) -> None:
        """Note that it has a file."""
        identity = {"watcher": self._watcher, "file": name}
        facts = {"_id": identity, "size": size, "md5": md5, "path": path, "at": datetime.now(UTC)}
        self._files.replace_one({"_id": identity}, facts, upsert=True)
