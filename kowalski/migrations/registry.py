"""The version of what is stored, and the steps from one to the next.

The version is a number in the system database (`names.MARKS`, ``_id`` ``schema``). A database without one is new if it
is empty, and of version 0 if it is not. To change what is stored add a module ``m<number>_<name>.py`` with ``TITLE``,
``pending`` and ``apply`` to `STEPS`: it must be safe to repeat, as it may be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.migrations import m001_light_curves, m002_cells
from kowalski.surveys import SURVEYS

MARK = {"_id": "schema"}


@dataclass(frozen=True, slots=True)
class Step:
    """A migration: from version ``number - 1`` to ``number``."""

    number: int
    title: str
    pending: Callable[[Database[Document], Database[Document]], int]
    """How many documents it would change."""
    apply: Callable[[Database[Document], Database[Document]], int]
    """Change them; gives how many."""


STEPS = tuple(
    Step(number, module.TITLE, module.pending, module.apply)
    for number, module in enumerate((m001_light_curves, m002_cells), start=1)
)
CURRENT = len(STEPS)
"""The version that this Kowalski reads and writes."""


class MigrationError(Exception):
    """What is stored is of a version that this Kowalski can't work with; the text says what to do."""


def version(system: Database[Document]) -> int:
    """Give the version of what is stored; `CURRENT` if nothing is."""
    found = system[names.MARKS].find_one(MARK)
    if found is not None:
        return int(found["version"])
    return CURRENT if _is_new(system) else 0


def set_version(system: Database[Document], number: int) -> None:
    """Note the version of what is stored."""
    change = {"$set": {"version": number, "at": datetime.now(UTC)}}
    system[names.MARKS].update_one(MARK, change, upsert=True)


def lower(system: Database[Document], number: int) -> bool:
    """Note that something older was put in; returns whether there is something to migrate now."""
    set_version(system, min(number, version(system)))
    return number < CURRENT


def check(system: Database[Document]) -> None:
    """See that this Kowalski can work with what is stored; a new database gets its version.

    Raises
    ------
    MigrationError
        If it is older or newer.
    """
    found = version(system)
    if found > CURRENT:
        raise MigrationError(
            f"the database {system.name} is of version {found}, this Kowalski of version {CURRENT}: a newer one has "
            "worked with it. Start that one, or restore a backup that was made before (seed)"
        )
    if found < CURRENT:
        raise MigrationError(
            f"the database {system.name} is of version {found}, this Kowalski of version {CURRENT}; make a backup, "
            "then run ./kowalski.py migrate (--dry-run tells what it would change)"
        )
    if system[names.MARKS].find_one(MARK) is None:
        set_version(system, CURRENT)


def due(system: Database[Document]) -> tuple[Step, ...]:
    """Give the steps that what is stored has yet to take.

    Raises
    ------
    MigrationError
        If it is newer than this Kowalski.
    """
    found = version(system)
    if found > CURRENT:
        check(system)
    return STEPS[found:]


def run(data: Database[Document], system: Database[Document]) -> Iterator[tuple[Step, int]]:
    """Take the steps that are due, in order; each gives how many documents it has changed."""
    for step in due(system):
        changed = step.apply(data, system)
        set_version(system, step.number)
        yield step, changed


def _is_new(system: Database[Document]) -> bool:
    data = system.client[system.name.removesuffix("_system")]
    there = set(data.list_collection_names())
    if any(data[survey.alerts].find_one({}, {"_id": 1}) for survey in SURVEYS.values() if survey.alerts in there):
        return False
    return not any(system[name].find_one({}, {"_id": 1}) for name in (names.USERS, names.FILTERS, names.OUTBOX))
