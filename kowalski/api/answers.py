"""How answers are written: the envelope, whole or in pieces as they come from the database.

Success is ``{"status": "success", "message": …, "data": …}`` in relaxed Extended JSON, an error
``{"status": "error", "message": …}``; every body is a JSON object.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiohttp import web
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from kowalski.api import extjson
from kowalski.api.errors import ApiError
from kowalski.api.formats.envelope import CONTENT_TYPE

BUFFER = 4 * 1024 * 1024
"""Bytes up to which an answer is sent as a whole, so that an error on the way still gets its own status."""

log = logging.getLogger(__name__)


def success(message: str, data: Any = None, **fields: Any) -> web.Response:
    """Answer with ``data``, which is left out if it is None."""
    envelope = {"status": "success", "message": message, **fields}
    return _json(200, envelope if data is None else {**envelope, "data": data})


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with an error."""
    # What a user has sent may come back in the text, and not all of that can be encoded.
    text = message.encode(errors="replace").decode()
    return _json(status, {"status": "error", "message": text}, headers)


def plain(envelope: Mapping[str, Any]) -> web.Response:
    """Answer with an object that is no envelope."""
    return _json(200, envelope)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=extjson.dumps(body), headers={**(headers or {}), "Content-Type": CONTENT_TYPE}
    )


async def stream(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Answer with pieces of an envelope.

    Small answers are sent as a whole. A large one is sent while it is being read; if that fails in the middle, the
    connection is closed without its proper end, so that nobody takes a part for the whole.
    """
    buffer: list[bytes] = []
    size = 0
    async for piece in pieces:
        buffer.append(piece)
        size += len(piece)
        if size > BUFFER:
            return await _stream_rest(request, b"".join(buffer), pieces)
    return web.Response(body=b"".join(buffer), headers={"Content-Type": CONTENT_TYPE})


async def _stream_rest(request: web.Request, start: bytes, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    await response.prepare(request)
    try:
        await response.write(start)
        async for piece in pieces:
            await response.write(piece)
    except ConnectionError:
        log.info("a client has left during an answer to %s", request.path)
    except (ApiError, PyMongoError, BSONError) as error:
        log.warning("an answer to %s broke off: %s", request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response
