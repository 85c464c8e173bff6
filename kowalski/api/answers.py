"""Answers that are there as a whole; `kowalski.api.streaming` sends what queries give.

Success is ``{"status": "success", "message": …, "data": …}`` in relaxed Extended JSON, an error
``{"status": "error", "message": …, "request_id": …}``; every body is a JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from kowalski.api import extjson
from kowalski.api.formats.envelope import CONTENT_TYPE

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Sent with every answer, unless the handler has set them itself."""
SERVER = "Kowalski"
"""What answers say has made them, instead of the versions of what runs it."""


def success(message: str, data: Any = None, **fields: Any) -> web.Response:
    """Answer with ``data``, which is left out if it is None."""
    envelope = {"status": "success", "message": message, **fields}
    return _json(200, envelope if data is None else {**envelope, "data": data})


def failure(
    status: int, message: str, headers: Mapping[str, str] | None = None, request_id: str | None = None
) -> web.Response:
    """Answer with an error, which has the request's id so that its user can tell which one it was."""
    # What a user has sent may come back in the text, and not all of that can be encoded.
    text = message.encode(errors="replace").decode()
    named = {} if request_id is None else {"request_id": request_id}
    return _json(status, {"status": "error", "message": text, **named}, headers)


def plain(envelope: Mapping[str, Any], status: int = 200) -> web.Response:
    """Answer with an object that is no envelope."""
    return _json(status, envelope)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=extjson.dumps(body), headers={**(headers or {}), "Content-Type": CONTENT_TYPE}
    )
