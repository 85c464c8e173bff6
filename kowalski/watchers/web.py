"""A polite HTTP client: paced, it waits when it is told to, tries again within bounds, and says so."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Self, TypeVar

import httpx

from kowalski import __version__
from kowalski.config.watchers import Files, OperationsLog, Watcher, Watchers
from kowalski.http import retry_after
from kowalski.watchers.errors import Refused, Unavailable

PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers after which the same request may succeed."""

Answer = TypeVar("Answer")
Wait = Callable[[float], None]
"""Waits for some seconds, or raises `kowalski.watchers.errors.Stopped`."""

log = logging.getLogger(__name__)


class Web:
    """A server's client; several threads may use it. Close it, or use it as a context.

    Parameters
    ----------
    common, own
        How watchers behave, and what is set of this one.
    wait
        How it waits.
    headers, auth, verify
        As httpx takes them.

    Attributes
    ----------
    trouble
        What last went wrong, while it is not over; None when all is well.
    """

    def __init__(
        self,
        common: Watchers,
        own: Watcher,
        wait: Wait,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        verify: bool = True,
    ) -> None:
        self._common = common
        self._wait = wait
        self._interval = 60.0 / own.requests_per_minute if own.requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._http = httpx.Client(
            headers={"User-Agent": f"Kowalski {__version__}", **(headers or {})},
            auth=auth,
            verify=verify,
            timeout=common.timeout_seconds,
            follow_redirects=True,
        )
        self.trouble: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Get a page; the status is 200 or, where ``headers`` ask for what has changed only, 304."""
        return self.persist(lambda: self._once("GET", url, headers=headers))

    def post(self, url: str, **content: Any) -> httpx.Response:
        """Post a form (``data``), JSON (``json``) or bytes (``content``).

        Raises
        ------
        Unavailable, Refused
            If there is no good answer.
        """
        return self.persist(lambda: self._once("POST", url, **content))

    def _once(self, method: str, url: str, **options: Any) -> httpx.Response:
        with self.stream(method, url, **options) as response:
            response.read()
        return response

    @contextmanager
    def stream(self, method: str, url: str, **options: Any) -> Iterator[httpx.Response]:
        """Make one attempt at a request, when it is its turn, and read the answer piece by piece.

        Raises
        ------
        Unavailable, Refused
            If the answer is not good, or breaks off.
        """
        self._take_turn()
        try:
            with self._http.stream(method, url, **options) as response:
                self._heed(response)
                judge(response)
                yield response
        except httpx.HTTPError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Unavailable(f"{method} {url}: {reason}") from error

    def persist(self, action: Callable[[], Answer]) -> Answer:
        """Do something until it succeeds, ``attempts`` times at most, with growing pauses.

        Raises
        ------
        Unavailable
            If the last attempt failed, or the server wants a longer pause than a pass should last.
        """
        attempt = 1
        while True:
            try:
                answer = action()
            except Unavailable as error:
                self.trouble = str(error)
                pause = self._backoff(attempt) if error.pause is None else error.pause
                if attempt >= self._common.attempts or pause > self._common.backoff_max_seconds:
                    raise
                log.warning("%s; attempt %d of %d, next in %.1f s", error, attempt, self._common.attempts, pause)
                self._wait(pause)
                attempt += 1
            else:
                self.trouble = None
                return answer

    def _backoff(self, attempt: int) -> float:
        longest = min(self._common.backoff_seconds * 2.0 ** (attempt - 1), self._common.backoff_max_seconds)
        return longest * random.uniform(0.5, 1.0)

    def _take_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            if turn - now > self._common.backoff_max_seconds + self._interval:
                raise Unavailable("the server's limit of requests is used up", turn - now)
            self._next = turn + self._interval
        if turn > now:
            self._wait(turn - now)

    def _heed(self, response: httpx.Response) -> None:
        """Where a server counts requests (``x-rate-limit-remaining``, ``-reset``), wait as soon as none is left."""
        for name, value in response.headers.items():
            if name.endswith("-remaining") and value.strip() == "0":
                seconds = response.headers.get(f"{name.removesuffix('remaining')}reset", "").strip()
                if seconds.isdecimal():
                    with self._lock:
                        self._next = max(self._next, time.monotonic() + int(seconds))


def client_of(common: Watchers, own: Files | OperationsLog, wait: Wait) -> Web:
    """Make the client of a server that may want a user's name and password."""
    auth = (own.username, own.password or "") if own.username is not None else None
    return Web(common, own, wait, auth=auth, verify=own.verify_tls)


def judge(response: httpx.Response) -> None:
    """Tell good answers from bad ones.

    Raises
    ------
    Unavailable, Refused
        If it is not 200, 206 or 304.
    """
    status = response.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED):
        return
    request = response.request
    text = f"{request.method} {request.url.copy_with(query=None)}: {status} {response.reason_phrase}"
    if status in PASSING:
        raise Unavailable(text, _pause(response))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        text += " (are the credentials right?)"
    raise Refused(text, status)


def _pause(response: httpx.Response) -> float | None:
    """How long the server asks to be left alone: ``Retry-After``, or when its count of requests starts anew."""
    asked = retry_after(response.headers)
    if asked is not None:
        return asked
    resets = [value for name, value in response.headers.items() if name.endswith("-reset") and value.isdecimal()]
    return max((float(value) for value in resets), default=None)
