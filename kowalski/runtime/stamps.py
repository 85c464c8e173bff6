"""When a line of a log was written, how bad it is and what it says, whoever has written it.

Known are our own lines (`kowalski.runtime.logs`: text or JSON) and those of MongoDB (JSON), Kafka, Dask, gunicorn and
supervisord. Times without a time zone are of this machine's.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LEVELS = {
    **dict.fromkeys(("TRACE", "TRAC", "BLAT", "DEBUG", "DEBG", "D", "D1", "D2", "D3", "D4", "D5"), logging.DEBUG),
    **dict.fromkeys(("INFO", "I"), logging.INFO),
    **dict.fromkeys(("WARNING", "WARN", "W"), logging.WARNING),
    **dict.fromkeys(("ERROR", "ERRO", "E"), logging.ERROR),
    **dict.fromkeys(("CRITICAL", "CRIT", "FATAL", "F"), logging.CRITICAL),
}
"""What programs call them, and what they are to `logging`; single letters are MongoDB's."""

_TIME = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?) ?(Z|[+-]\d\d:?\d\d)?\]? (?:- )?")
_WORDS = "|".join(name for name in LEVELS if len(name) > 2)
_LEVEL = re.compile(rf"(?:\[\d+\] )?(?P<name>[\w.]+ - )?\[?(?P<level>{_WORDS})\]?(?(name) -) ?")
"""Level in text: ``WARNING``, ``[123] [WARNING]`` (gunicorn), ``distributed.core - WARNING -`` (Dask)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a line tells of itself.

    Attributes
    ----------
    time
        When it was written, in UTC.
    level
        As in `logging`; None where it tells none.
    message
        What is left.
    fields
        What an object has beside time, level and message.
    """

    time: datetime
    level: int | None
    message: str
    fields: dict[str, Any] = field(default_factory=dict)


def read(line: str) -> Stamp | None:
    """Read the stamp of a line; None where it has none, and so belongs to the line before."""
    return _of_object(line) if line.startswith("{") else _of_text(line)


def _of_text(line: str) -> Stamp | None:
    found = _TIME.match(line)
    time = _time("".join(part or "" for part in found.groups())) if found else None
    if found is None or time is None:
        return None
    level = _LEVEL.match(line, found.end())
    if level is None:
        return Stamp(time, None, line[found.end() :])
    return Stamp(time, LEVELS[level["level"]], (level["name"] or "") + line[level.end() :])


def _of_object(line: str) -> Stamp | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # somebody's output that only looks like it
        return None
    if isinstance(event.get("t"), dict):  # MongoDB's
        event = {
            "time": event.pop("t").get("$date"),
            "level": event.pop("s", ""),
            "message": event.pop("msg", ""),
            **event,
        }
    time = _time(str(event.pop("time", "")))
    if time is None:
        return None
    level, message = LEVELS.get(str(event.pop("level", ""))), str(event.pop("message", ""))
    return Stamp(time, level, message, event)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # digits that are no date
        return None
