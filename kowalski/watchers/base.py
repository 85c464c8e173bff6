"""What a watcher is given, and what it says of a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pymongo.database import Database

from kowalski.archive.client import Document
from kowalski.archive.fetched import Memory
from kowalski.config import Settings
from kowalski.config.watchers import Watcher as WatcherSettings
from kowalski.watchers.web import Wait

Own = TypeVar("Own", bound=WatcherSettings, covariant=True)


@dataclass(frozen=True)
class Context(Generic[Own]):
    """What a watcher works with.

    Attributes
    ----------
    name, settings, own
        Its name, everything that is set, and what is set of it.
    data, system, memory
        Where documents go, where the services keep theirs, and where it notes how far it is.
    wait
        Waits for some seconds, or raises `kowalski.watchers.errors.Stopped`.
    tell
        Takes what it is doing, for `status` and the log.
    """

    name: str
    settings: Settings
    own: Own
    data: Database[Document]
    system: Database[Document]
    memory: Memory
    wait: Wait
    tell: Callable[[str], None]

    @property
    def scratch(self) -> Path:
        """Folder for files that are needed during a pass only."""
        return self.settings.path.run / "watchers" / self.name


@dataclass(slots=True)
class Outcome:
    """What a pass has brought.

    Attributes
    ----------
    new
        How many documents or files are new or changed.
    rejected
        What could not be taken, and why; the rest is taken all the same.
    summary
        One phrase for the operator.
    """

    new: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    summary: str = ""


class Watcher(Protocol):
    """One kind of watcher."""

    def once(self) -> Outcome:
        """Look once for what is new; whatever is found is durable when it returns.

        Raises
        ------
        kowalski.watchers.errors.WatcherError
            If the pass can't go on; what was found by then stays.
        """
