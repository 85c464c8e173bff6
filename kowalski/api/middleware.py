"""What happens to every request: a name, an entry in the log, and a JSON body for whatever goes wrong."""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any

from aiohttp import web
from pymongo.errors import PyMongoError

from kowalski.api import addresses, answers, cors, metrics, services
from kowalski.api.context import ADDRESS, REQUEST_ID, USER
from kowalski.api.errors import MAX_TEXT, UNENCODABLE, ApiError, InvalidRequestError, from_database
from kowalski.api.routes import Handler
from kowalski.runtime import logs

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

CLIENT_LEFT = 499
"""Status in log and metrics of a request whose answer nobody waited for, as nginx has it."""
MAX_PATH = 500
"""Characters of what clients have written that go into a line of the log."""

log = logging.getLogger(__name__)
access = logging.getLogger("kowalski.access")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer, just before they are sent."""
    for name, value in answers.HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = answers.SERVER
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    for name, value in cors.headers(request, services.of(request).settings.server.cors_origins).items():
        kept = response.headers.get(name)
        response.headers[name] = f"{kept}, {value}" if kept else value


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request a name (or keep the one it came with), log how it was answered, and count it."""
    given = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = given if _SANE_ID.fullmatch(given) else os.urandom(16).hex()
    request[ADDRESS] = addresses.of(request, services.of(request).proxies)
    named = logs.REQUEST.set(request[REQUEST_ID])
    started, response = time.perf_counter(), None
    metrics.ACTIVE.inc()
    try:
        response = await handler(request)
        return response
    except web.HTTPException as redirect:
        response = redirect
        raise
    finally:
        seconds, status = time.perf_counter() - started, CLIENT_LEFT if response is None else response.status
        metrics.ACTIVE.dec()
        metrics.observe(request, status, seconds)
        fields = {"status": status, "ms": round(seconds * 1e3, 1), **_fields(request)}
        access.info("%s %s %d", request.method, request.path, status, extra={"fields": fields})
        logs.REQUEST.reset(named)


def _fields(request: web.Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.rel_url.raw_path_qs[:MAX_PATH],
        "user": request[USER].name if USER in request else None,
        "address": request[ADDRESS],
        "agent": request.headers.get("User-Agent", "")[:MAX_PATH],
        "received": request.content_length,
    }


@web.middleware
async def cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer browsers that ask whether a page of another site may send a request."""
    if cors.is_preflight(request, services.of(request).settings.server.cors_origins):
        return cors.preflight()
    return await handler(request)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into an answer that clients can read."""
    try:
        return await handler(request)
    except ApiError as error:
        return _failure(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return answers.failure(error.status, error.reason, kept, request[REQUEST_ID])
    except web.RequestPayloadError as error:
        text = f"the body can't be read: {' '.join(str(error).split())}"
        return _failure(request, InvalidRequestError(text[:MAX_TEXT]))
    except PyMongoError as error:
        known = from_database(error)
        if known is None:
            return _unexpected(request, error)
        if known.status >= 500:
            log.warning("database: %s", error)
        return _failure(request, known)
    except UNENCODABLE as error:
        log.warning("not for MongoDB", exc_info=error)
        return _failure(request, InvalidRequestError(f"the database can't take this: {error}"[:MAX_TEXT]))
    except Exception as error:  # noqa: BLE001  # the last stop: a fault of ours is logged and answered without details
        return _unexpected(request, error)


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    log.error("%s %s", request.method, request.rel_url.raw_path, exc_info=error)
    return answers.failure(500, "Internal Server Error", request_id=request[REQUEST_ID])


def _failure(request: web.Request, error: ApiError) -> web.Response:
    return answers.failure(error.status, str(error), error.headers, request[REQUEST_ID])
