"""The watcher of the Transient Name Server (TNS).

The table of all objects is loaded once, then each day's table of what has changed; between them the API is asked what
was published since the last search, and for each such object. Which objects are still to be asked for is noted before
the first of them is, so that a restart goes on there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from itertools import islice
from typing import Any

import orjson
from pymongo import IndexModel

from kowalski.archive.client import Document
from kowalski.config.watchers import Tns
from kowalski.watchers import places, tns_objects
from kowalski.watchers.base import Context, Outcome
from kowalski.watchers.downloads import download
from kowalski.watchers.errors import Malformed, Refused, Unavailable
from kowalski.watchers.web import Web

INDEXES = [IndexModel([("discovery_date", -1)], name="discovery_date"), IndexModel([("name", 1)], name="name")]
DAYS = 30
"""Daily tables that are fetched one by one; of longer absences the table of all objects is shorter."""
BATCH = 1000
GOOD = 200


class TnsWatcher:
    """Brings what TNS publishes into one collection."""

    def __init__(self, context: Context[Tns]) -> None:
        self._context = context
        self._own = context.own
        self._objects = context.data[context.own.collection]
        self._outcome = Outcome()

    def once(self) -> Outcome:
        """Load the tables that are due, ask for what is new, and for each new object."""
        places.prepare(self._objects, INDEXES)
        marker = json.dumps({"tns_id": self._own.bot_id, "type": "bot", "name": self._own.bot_name})
        headers = {"User-Agent": f"tns_marker{marker}"}
        with Web(self._context.settings.watchers, self._own, self._context.wait, headers=headers) as web:
            rows = self._load_tables(web) if self._own.tables else 0
            asked = self._ask(web)
        self._outcome.new = rows + asked
        self._outcome.summary = f"{rows} objects of tables, {asked} asked for"
        return self._outcome

    # Tables

    def _load_tables(self, web: Web) -> int:
        known = self._context.memory.load().get("tables_until")
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        last = None if known is None else date.fromisoformat(known)
        if last is None or (yesterday - last).days > DAYS:
            return self._load_table(web, "", yesterday)
        rows = 0
        while last < yesterday:
            day = last + timedelta(days=1)
            try:
                rows += self._load_table(web, f"_{day:%Y%m%d}", day)
            except Refused as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                if day == yesterday:
                    return rows  # not published yet
                return rows + self._load_table(web, "", yesterday)  # one is missing for good: all have it
            last = day
        return rows

    def _load_table(self, web: Web, suffix: str, day: date) -> int:
        name = f"tns_public_objects{suffix}.csv.zip"
        self._context.tell(f"loading {name}")
        path = self._context.scratch / name
        url = f"{self._root}/system/files/tns_public_objects/{name}"
        download(web, url, path, form={"api_key": str(self._own.api_key)})
        until = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        try:
            rows = self._store(tns_objects.from_table(path, until, self._outcome.rejected))
        finally:
            path.unlink(missing_ok=True)
        self._context.memory.save(tables_until=day.isoformat())
        return rows

    def _store(self, documents: Iterable[Document]) -> int:
        rows = 0
        left = iter(documents)
        while some := list(islice(left, BATCH)):
            self._objects.bulk_write([tns_objects.upsert(each) for each in some], ordered=False)
            rows += len(some)
        return rows

    # What is new

    def _ask(self, web: Web) -> int:
        begun = datetime.now(UTC)
        mark = self._context.memory.load()
        last = mark.get("searched_at", begun).replace(tzinfo=UTC)
        since = last - timedelta(hours=self._own.hours)
        answer, _ = self._call(web, "search", {"public_timestamp": f"{since:%Y-%m-%d %H:%M:%S}"})
        if not isinstance(answer, list) or not all(isinstance(each, dict) and "objname" in each for each in answer):
            raise Malformed("TNS answers a search with something else than a list of objects")
        found = [str(each["objname"]) for each in answer]
        pending: list[str] = mark.get("pending", [])
        new = [name for name in found if name not in {*mark.get("seen", []), *pending}]
        pending = list(dict.fromkeys(pending + new))
        self._context.memory.save(searched_at=begun, seen=found, pending=pending)
        if pending:
            self._context.tell(f"asking for {len(pending)} objects")
        asked = 0
        while pending:
            asked += self._fetch(web, pending[0])
            pending = pending[1:]
            self._context.memory.save(pending=pending)
        return asked

    def _fetch(self, web: Web, name: str) -> int:
        try:
            reply, at = self._call(web, "object", {"objname": name, "photometry": "0", "spectra": "0"})
            document = tns_objects.from_api(reply, at)
        except Refused as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
                raise
            self._outcome.rejected[name] = str(error)
            return 0
        except tns_objects.NoObject as error:
            self._outcome.rejected[name] = str(error)
            return 0
        self._objects.bulk_write([tns_objects.upsert(document)])
        return 1

    def _call(self, web: Web, what: str, question: dict[str, Any]) -> tuple[Any, datetime]:
        """Ask the API; returns what it says, and when it was asked.

        Raises
        ------
        Unavailable, Refused, Malformed
            If there is no answer, or one that is none.
        """
        at = datetime.now(UTC)
        form = {"api_key": str(self._own.api_key), "data": json.dumps(question)}

        def attempt() -> Any:
            with web.stream("POST", f"{self._root}/api/get/{what}", data=form) as response:
                return _content(response.read(), what)

        content = web.persist(attempt)
        code = content.get("id_code", GOOD)
        if code != GOOD:
            raise Refused(f"TNS answers {what} with {code} {content.get('id_message', '')}", int(code))
        data = content.get("data")
        return (data["reply"] if isinstance(data, dict) and "reply" in data else data), at

    @property
    def _root(self) -> str:
        return str(self._own.url).rstrip("/")


def _content(text: bytes, what: str) -> dict[str, Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:  # a page of its proxy, or half an answer
        raise Unavailable(f"TNS answers {what} with something else than JSON: {error}") from error
    if not isinstance(content, dict):
        raise Unavailable(f"TNS answers {what} with something else than an object of JSON")
    return content
