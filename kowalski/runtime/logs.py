"""How services write their logs: a line per event on standard error, which the supervisor puts into ``<run>/logs``.

Lines are text, or JSON objects where ``logging.format`` is ``json``. An event that has fields of its own
(``extra={"fields": {...}}``), such as a request to the API, is a JSON object in either case.
"""

from __future__ import annotations

import json
import logging
import time
from contextvars import ContextVar
from typing import Any

import orjson

from kowalski.config import Settings

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Time (UTC, ISO 8601), how bad, who, what."""
TIME = "%Y-%m-%dT%H:%M:%SZ"

REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""Id of the request that is being answered; every line that is written meanwhile carries it."""


def _encode(event: dict[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # half a character, or a number beyond 64 bits: both come from outside
        return json.dumps(event, default=str)


class TextFormatter(logging.Formatter):
    """Writes an event as text, with the request's id at the end, or as JSON if it has fields."""

    def __init__(self) -> None:
        super().__init__(FORMAT, TIME)
        self.converter = time.gmtime
        self._json = JsonFormatter()

    def format(self, record: logging.LogRecord) -> str:
        """Write one event."""
        return self._json.format(record) if hasattr(record, "fields") else super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # as the base class has it
        """Write the first line of an event."""
        request = REQUEST.get()
        line = super().formatMessage(record)
        return line if request is None else f"{line} request={request}"


class JsonFormatter(logging.Formatter):
    """Writes an event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one event."""
        event: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := REQUEST.get()) is not None:
            event["request"] = request
        event |= getattr(record, "fields", {})
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return _encode(event)


def configure(settings: Settings) -> None:
    """Set up logging for this process as ``logging`` says; what libraries tell below warnings is left out."""
    # Looked up for each event otherwise, and in no line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the documented way to do without the caller's file and line
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.logging.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kowalski").setLevel(settings.logging.level.upper())
