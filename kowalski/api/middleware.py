"""What happens to every request: a name, an entry in the log, and a JSON body for whatever goes wrong."""

from __future__ import annotations

import logging
import re
import time
import uuid

from aiohttp import web
from pymongo.errors import PyMongoError

from kowalski.api import addresses, answers, services
from kowalski.api.context import ADDRESS, REQUEST_ID, USER
from kowalski.api.errors import MAX_TEXT, UNENCODABLE, ApiError, InvalidRequestError, from_database
from kowalski.api.routes import Handler

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Sent with every answer, unless the handler has set them itself."""

log = logging.getLogger(__name__)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer, just before they are sent."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "Kowalski"  # instead of the versions of what runs it
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request a name (or keep the one it came with) and log how it was answered."""
    given = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
    request[ADDRESS] = addresses.of(request, services.of(request).proxies)
    started = time.perf_counter()
    response = await handler(request)
    log.info(
        "%s %s %d %.1f ms user=%s from=%s id=%s",
        request.method,
        request.rel_url.raw_path,
        response.status,
        (time.perf_counter() - started) * 1e3,
        request[USER].name if USER in request else "-",
        request[ADDRESS],
        request[REQUEST_ID],
    )
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into an answer that clients can read."""
    try:
        return await handler(request)
    except ApiError as error:
        return answers.failure(error.status, str(error), error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return answers.failure(error.status, error.reason, kept)
    except PyMongoError as error:
        known = from_database(error)
        if known is None:
            return _unexpected(request, error)
        if known.status >= 500:
            log.warning("database: %s id=%s", error, request[REQUEST_ID])
        return answers.failure(known.status, str(known), known.headers)
    except UNENCODABLE as error:
        log.warning("not for MongoDB: id=%s", request[REQUEST_ID], exc_info=error)
        invalid = InvalidRequestError(f"the database can't take this: {error}"[:MAX_TEXT])
        return answers.failure(invalid.status, str(invalid))
    except Exception as error:  # noqa: BLE001  # the last stop: a fault of ours is logged and answered without details
        return _unexpected(request, error)


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    log.error("%s %s id=%s", request.method, request.rel_url.raw_path, request[REQUEST_ID], exc_info=error)
    return answers.failure(500, "Internal Server Error")
