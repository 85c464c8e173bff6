"""The watcher of a telescope's operations log: a table of fixed widths to which a line is added for each exposure.

A document has ``utc_start`` and ``utc_end`` (UTC), ``jd_start`` and ``jd_end``, the table's other columns and, unless
the telescope pointed nowhere, ``coordinates``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

from pymongo import IndexModel, UpdateOne

from kowalski.archive.client import Document
from kowalski.config.watchers import OperationsLog
from kowalski.science.dates import jd_of
from kowalski.watchers import places
from kowalski.watchers.base import Context, Outcome
from kowalski.watchers.errors import Malformed
from kowalski.watchers.web import client_of

INDEXES = [
    IndexModel([("utc_start", 1), ("utc_end", 1), ("fileroot", 1)], name="utc_start_utc_end_fileroot"),
    IndexModel([("jd_start", 1), ("jd_end", 1), ("fileroot", 1)], name="jd_start_jd_end_fileroot"),
    IndexModel([("jd_start", -1), ("pid", 1), ("field", 1)], name="jd_start_pid_field"),
]
LOOK_BACK = 2.0
"""Days before the newest exposure that are looked through again, for lines that were added late or corrected."""
NOWHERE = -99.0
"""Right ascension and declination of an exposure without a place on the sky."""


class Column(NamedTuple):
    """A column: its name, width in characters and type."""

    name: str
    width: int
    kind: type[str] | type[int] | type[float]


COLUMNS = (
    Column("utc_start", 22, str),
    Column("sun_elevation", 4, float),
    Column("exp", 6, float),
    Column("filter", 4, str),
    Column("type", 5, str),
    Column("field", 8, int),
    Column("pid", 4, int),
    Column("ra", 9, float),
    Column("dec", 9, float),
    Column("slew", 7, float),
    Column("wait", 8, float),
    Column("fileroot", 29, str),
    Column("programpi", 11, str),
    Column("qcomment", 25, str),
)


class OperationsLogWatcher:
    """Brings the lines of the table into one collection."""

    def __init__(self, context: Context[OperationsLog]) -> None:
        self._context = context
        self._own = context.own
        self._exposures = context.data[context.own.collection]

    def once(self) -> Outcome:
        """Fetch the table if it has changed, and add what is not there yet."""
        places.prepare(self._exposures, INDEXES)
        mark = self._context.memory.load()
        known = mark.get("version") or {}
        with client_of(self._context.settings.watchers, self._own, self._context.wait) as web:
            response = web.get(str(self._own.url), headers=known)
        if response.status_code == HTTPStatus.NOT_MODIFIED:
            return Outcome(summary="nothing has changed")
        outcome = Outcome()
        rows = read(response.text, outcome.rejected)
        outcome.new = self._add(rows)
        versions = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
        known = {ask: response.headers[told] for ask, told in versions.items() if told in response.headers}
        self._context.memory.save(version=known)
        outcome.summary = f"{outcome.new} new exposures of {len(rows)} in the table"
        return outcome

    def _add(self, rows: list[Document]) -> int:
        newest = self._exposures.find_one({}, {"jd_start": 1}, sort=[("jd_start", -1)])
        if newest is not None:
            rows = [row for row in rows if row["jd_start"] > newest["jd_start"] - LOOK_BACK]
        changes = [
            UpdateOne({"utc_start": row["utc_start"], "fileroot": row["fileroot"]}, {"$set": row}, upsert=True)
            for row in _placed(rows)
        ]
        if not changes:
            return 0
        done = self._exposures.bulk_write(changes, ordered=False)
        return int(done.upserted_count + done.modified_count)


def read(text: str, rejected: dict[str, str]) -> list[Document]:
    """Read the table.

    Parameters
    ----------
    text
        Comments begin with ``#``, or with ``|`` or a backslash as in IPAC's tables. A last line without an end is
        still being written, and left for the next time.
    rejected
        Gets the lines that can't be read, and why.

    Raises
    ------
    Malformed
        If there are lines and none can be read: it is something else.
    """
    *lines, _unfinished = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "|", "\\")):
            continue
        try:
            rows.append(_row(line.rstrip("\r")))
        except ValueError as error:
            rejected[f"line {number}"] = str(error)
    if rejected and not rows:
        raise Malformed(f"what came is no operations log: {next(iter(rejected.values()))}")
    return rows


def _row(line: str) -> Document:
    values: dict[str, Any] = {}
    begin = 0
    for name, width, kind in COLUMNS:
        cell = line[begin : begin + width].strip()
        begin += width
        try:
            values[name] = kind(cell)
        except ValueError as error:
            raise ValueError(f"{cell!r} is no {name}") from error
    if not values["fileroot"]:
        raise ValueError("it has no fileroot")
    start = datetime.fromisoformat(values["utc_start"])
    start = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
    end = start + timedelta(seconds=values["exp"])
    return values | {"utc_start": start, "utc_end": end, "jd_start": jd_of(start), "jd_end": jd_of(end)}


def _placed(rows: list[Document]) -> list[Document]:
    """Give exposures their ``coordinates``, where they have a place."""
    there = [row for row in rows if row["ra"] != NOWHERE and places.is_place(row["ra"], row["dec"])]
    made = places.coordinates([row["ra"] for row in there], [row["dec"] for row in there], [None] * len(there))
    for row, place in zip(there, made, strict=True):
        row["coordinates"] = place
    return rows
