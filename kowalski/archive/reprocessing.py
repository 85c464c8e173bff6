"""How far runs of ``reprocess`` are: one document per survey, span of dates, stages and way of posting.

Fields: ``run`` (a name of this run), ``started_at``, ``at`` (when it was last written, UTC), ``finished_at`` (null
until then), ``total`` and ``done`` alerts, ``jd`` (all alerts before it are done), ``failures`` (candid -> stage and
reason).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a run is.

    Attributes
    ----------
    run
        Its name; one that is resumed keeps it.
    done
        How many alerts lie before ``jd``, all of which are done.
    jd
        Julian date (UTC) to go on from; None: from the beginning.
    failures
        Alerts that could not be processed: candid -> stage and reason.
    """

    run: str
    done: int = 0
    jd: float | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


def find(system: Database[Document], key: str) -> Mark | None:
    """Find a run that was begun and has not ended."""
    found = system[names.REPROCESSING].find_one({"_id": key, "finished_at": None})
    return None if found is None else Mark(found["run"], found["done"], found["jd"], found["failures"])


def begin(system: Database[Document], key: str, total: int) -> Mark:
    """Begin a run, in place of an earlier one with the same key that has ended."""
    mark, now = Mark(uuid.uuid4().hex), datetime.now(UTC)
    document = {"run": mark.run, "started_at": now, "at": now, "finished_at": None, "total": total}
    system[names.REPROCESSING].replace_one(
        {"_id": key}, {**document, "done": 0, "jd": None, "failures": {}}, upsert=True
    )
    return mark


def note(system: Database[Document], key: str, done: int, jd: float) -> None:
    """Note that all alerts before ``jd`` are done."""
    system[names.REPROCESSING].update_one({"_id": key}, {"$set": {"done": done, "jd": jd, "at": datetime.now(UTC)}})


def note_failures(system: Database[Document], key: str, reasons: Mapping[int, str]) -> None:
    """Note what could not be processed, and why; a repetition changes nothing."""
    fields = {f"failures.{candid}": reason for candid, reason in reasons.items()}
    system[names.REPROCESSING].update_one({"_id": key}, {"$set": fields})


def finish(system: Database[Document], key: str, done: int) -> Mapping[str, str]:
    """Note that a run has ended; returns what could not be processed."""
    now = datetime.now(UTC)
    change = {"$set": {"done": done, "at": now, "finished_at": now}}
    system[names.REPROCESSING].update_one({"_id": key}, change)
    found = system[names.REPROCESSING].find_one({"_id": key}, {"failures": 1}) or {}
    failures: Mapping[str, str] = found.get("failures", {})
    return failures
