"""Requests that are no HTTP, or whose body is broken: answered in JSON, as every other error of the API.

aiohttp refuses them before there is a request that routes and middlewares could see, and in plain text.
"""

from __future__ import annotations

import logging
import uuid
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage

from kowalski.api import answers
from kowalski.api.errors import MAX_TEXT

access = logging.getLogger("kowalski.access")


class Handler(web.RequestHandler):
    """Serves one connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what can't be read, and what went wrong past our middlewares; the connection is closed then."""
        text, request_id = HTTPStatus(status).phrase, uuid.uuid4().hex
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            super().handle_error(request, status, exc, message)  # logs it, and raises if an answer was begun
        else:
            text = " ".join((message or text).split()).removesuffix(" ^")[:MAX_TEXT]
            # A line, not a trace: anybody who looks what this port is makes one.
            fields = {"status": status, "address": request.remote, "request": request_id, "reason": text}
            access.info("unreadable request %d", status, extra={"fields": fields})
        headers = {**answers.HEADERS, "Server": answers.SERVER, "X-Request-ID": request_id}
        response = answers.failure(status, text, headers, request_id)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault; a broken body is none of ours, and was answered when it was read."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent.

        When chunks of a body are broken, aiohttp's parser forgets the body whose part they are, and who reads it waits
        for ever; so that is told here.
        """
        super().data_received(data)
        if not self._messages or isinstance(self._messages[-1][0], RawRequestMessage):
            return
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        for body in bodies:
            if not body.is_eof() and body.exception() is None:
                body.set_exception(web.RequestPayloadError("its chunks are broken"))


class Server(web.Server):
    """Makes a `Handler` for each connection."""

    def __call__(self) -> web.RequestHandler:
        """Make one."""
        return Handler(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the application with `Handler`."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
