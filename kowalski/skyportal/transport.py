"""Calls of SkyPortal's API over HTTP: each either succeeds or says whether trying again makes sense."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx
import orjson

from kowalski import __version__
from kowalski.config.outlets import SkyPortal as SkyPortalSettings
from kowalski.courier.errors import AlreadyThere, DeliveryError, Refused, TryAgain
from kowalski.http import retry_after
from kowalski.skyportal.payloads import Payload

AWAY = {
    HTTPStatus.UNAUTHORIZED,  # the token's fault: no document is to blame
    HTTPStatus.METHOD_NOT_ALLOWED,  # what its proxy answers while SkyPortal starts
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers that say nothing about the call, but that SkyPortal can't be worked with now."""

REPEATED = "duplicate key value violates unique constraint"
"""How SkyPortal's database refuses what is there already."""

LONGEST_PAUSE = 3600.0
"""No ``Retry-After`` stops deliveries for longer, seconds."""


UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""How a call fails before any of it has reached SkyPortal."""


class Done(NamedTuple):
    """A successful call: HTTP status and the ``data`` of the answer."""

    status: int
    data: Any


Observer = Callable[[str, str, float], None]
"""Gets method and kind of call, how it ended, and the seconds it took."""


class Transport:
    """One connection pool to a SkyPortal; close it with `aclose`.

    Parameters
    ----------
    settings
        Where it is, the token, time-outs and how many calls run at once.
    observe
        Told of every call.
    """

    def __init__(self, settings: SkyPortalSettings, observe: Observer | None = None) -> None:
        headers = {"User-Agent": f"Kowalski {__version__}", "Accept": "application/json"}
        if settings.token:
            headers["Authorization"] = f"token {settings.token}"
        self._observe = observe
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            headers=headers,
            timeout=settings.timeout_seconds,
            limits=httpx.Limits(max_connections=settings.lanes + 2, max_keepalive_connections=settings.lanes),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Payload | None = None,
        patience: float | None = None,
    ) -> Done:
        """Make one call; ``patience`` is its time-out in seconds where it is not the usual one.

        Raises
        ------
        DeliveryError
            If it was not successful.
        """
        start, outcome = time.monotonic(), "ok"
        try:
            return await self._call(method, path, params, body, patience)
        except DeliveryError as error:
            outcome = type(error).__name__
            raise
        finally:
            if self._observe is not None:
                self._observe(f"{method} {_kind(path)}", outcome, time.monotonic() - start)

    async def _call(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Payload | None, patience: float | None
    ) -> Done:
        content = None if body is None else orjson.dumps(body.body(), default=str)
        headers = None if body is None else {"Content-Type": "application/json"}
        timeout = httpx.USE_CLIENT_DEFAULT if patience is None else httpx.Timeout(patience)
        try:
            response = await self._http.request(
                method, path, params=params, content=content, headers=headers, timeout=timeout
            )
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            lost = not isinstance(error, UNSENT)
            raise TryAgain(f"{method} {path}: {reason}", away=True, lost=lost) from error
        return _judge(method, path, response)


def _kind(path: str) -> str:
    """Name what is called, without ids and numbers."""
    parts = path.removeprefix("/api/").split("/")
    return parts[2] if len(parts) > 2 else parts[0]


def _judge(method: str, path: str, response: httpx.Response) -> Done:
    """Tell success from failure, and failures that may pass from those that won't.

    Raises
    ------
    DeliveryError
        If the call was not successful.
    """
    status = response.status_code
    if method == "HEAD" and status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        return Done(status, None)
    content = _content(response)
    said = str(content.get("message") or response.reason_phrase)
    message = f"{method} {path}: {status} {' '.join(said.split())}"
    if status in AWAY or response.is_redirect:
        raise TryAgain(message, away=True, pause=_pause(response), lost=response.is_server_error)
    if response.is_server_error:
        raise TryAgain(message, away=False, pause=_pause(response), lost=True)
    if response.is_client_error or content.get("status") == "error":
        raise AlreadyThere(message) if REPEATED in said else Refused(message)
    if content.get("status") != "success":
        raise TryAgain(f"{method} {path}: {status}, but the answer is not SkyPortal's", away=True, lost=True)
    return Done(status, content.get("data"))


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}  # a proxy's page, or nothing at all: the status has to do
    return content if isinstance(content, dict) else {}


def _pause(response: httpx.Response) -> float | None:
    """How long SkyPortal asks to be left alone."""
    asked = retry_after(response.headers)
    return None if asked is None else min(asked, LONGEST_PAUSE)
