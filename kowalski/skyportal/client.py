"""SkyPortal's API as typed calls; each either succeeds or says whether trying again makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from kowalski import __version__
from kowalski.config.settings import SkyPortal as SkyPortalSettings
from kowalski.skyportal.payloads import (
    Annotation,
    AnnotationPost,
    AnnotationPut,
    CandidatePost,
    Group,
    Named,
    Payload,
    PhotometryPut,
    ThumbnailPost,
)

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


class SkyPortalError(Exception):
    """A call was not successful; the text says which one and why."""


class TryAgain(SkyPortalError):
    """The call may succeed later.

    Attributes
    ----------
    away
        Whether SkyPortal as a whole can't be worked with, rather than this call.
    pause
        Seconds that SkyPortal asks to wait, or None.
    """

    def __init__(self, message: str, *, away: bool, pause: float | None = None) -> None:
        super().__init__(message)
        self.away = away
        self.pause = pause


class Refused(SkyPortalError):
    """SkyPortal will never accept this call."""


class AlreadyThere(Refused):
    """SkyPortal has it: an earlier call succeeded whose answer was lost."""


class _Done(NamedTuple):
    status: int
    data: Any


class SkyPortal:
    """One connection pool to a SkyPortal; close it with `aclose`.

    Parameters
    ----------
    settings
        Where it is, the token, time-out and how many calls run at once.
    """

    def __init__(self, settings: SkyPortalSettings) -> None:
        headers = {"User-Agent": f"Kowalski {__version__}", "Accept": "application/json"}
        if settings.token:
            headers["Authorization"] = f"token {settings.token}"
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            headers=headers,
            timeout=settings.timeout_seconds,
            limits=httpx.Limits(max_connections=settings.lanes + 2, max_keepalive_connections=settings.lanes),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def instruments(self, name: str) -> list[Named]:
        """Find instruments by name."""
        return _read(list[Named], await self._call("GET", "/api/instrument", {"name": name}))

    async def streams(self) -> list[Named]:
        """List the alert streams: what users may see is split by them."""
        return _read(list[Named], await self._call("GET", "/api/streams"))

    async def group(self, group_id: int) -> Group:
        """Read a group and the names of its filters."""
        return _read(Group, await self._call("GET", f"/api/groups/{group_id}", {"includeGroupUsers": "False"}))

    async def knows(self, object_id: str) -> bool:
        """Tell whether SkyPortal has the object, as a candidate or as a source."""
        for kind in ("candidates", "sources"):
            done = await self._call("HEAD", f"/api/{kind}/{_quoted(object_id)}")
            if done.status != HTTPStatus.NOT_FOUND:
                return True
        return False

    async def post_candidate(self, candidate: CandidatePost) -> None:
        """Say that an alert passed filters.

        Raises
        ------
        AlreadyThere
            If one of the filters has this object with the same ``passed_at``; then nothing of the call was taken.
        """
        await self._call("POST", "/api/candidates", body=candidate)

    async def annotations(self, object_id: str) -> list[Annotation]:
        """List an object's annotations."""
        return _read(list[Annotation], await self._call("GET", f"/api/sources/{_quoted(object_id)}/annotations"))

    async def post_annotation(self, annotation: AnnotationPost) -> None:
        """Annotate an object."""
        await self._call("POST", f"/api/sources/{_quoted(annotation.obj_id)}/annotations", body=annotation)

    async def put_annotation(self, annotation_id: int, annotation: AnnotationPut) -> None:
        """Replace an annotation."""
        path = f"/api/sources/{_quoted(annotation.obj_id)}/annotations/{annotation_id}"
        await self._call("PUT", path, body=annotation)

    async def put_photometry(self, photometry: PhotometryPut, *, overwrite: bool = False) -> None:
        """Send a light curve; with ``overwrite``, a point of the same time and origin takes the new flux."""
        flags = {"duplicate_ignore_flux": "true", "overwrite_flux": "true"} if overwrite else None
        await self._call("PUT", "/api/photometry", flags, body=photometry)

    async def post_thumbnail(self, thumbnail: ThumbnailPost) -> None:
        """Send a picture of an object."""
        await self._call("POST", "/api/thumbnail", body=thumbnail)

    async def _call(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: Payload | None = None
    ) -> _Done:
        content = None if body is None else orjson.dumps(body.model_dump(), default=str)
        headers = None if body is None else {"Content-Type": "application/json"}
        try:
            response = await self._http.request(method, path, params=params, content=content, headers=headers)
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise TryAgain(f"{method} {path}: {reason}", away=True) from error
        return _judge(method, path, response)


def _judge(method: str, path: str, response: httpx.Response) -> _Done:
    """Tell success from failure, and failures that may pass from those that won't.

    Raises
    ------
    SkyPortalError
        If the call was not successful.
    """
    status = response.status_code
    if method == "HEAD" and status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        return _Done(status, None)
    content = _content(response)
    said = str(content.get("message") or response.reason_phrase)
    message = f"{method} {path}: {status} {' '.join(said.split())}"
    if status in AWAY or response.is_redirect:
        raise TryAgain(message, away=True, pause=_pause(response))
    if response.is_server_error:
        raise TryAgain(message, away=False, pause=_pause(response))
    if response.is_client_error or content.get("status") == "error":
        raise AlreadyThere(message) if REPEATED in said else Refused(message)
    if content.get("status") != "success":
        raise TryAgain(f"{method} {path}: {status}, but the answer is not SkyPortal's", away=True)
    return _Done(status, content.get("data"))


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}  # a proxy's page, or nothing at all: the status has to do
    return content if isinstance(content, dict) else {}


def _pause(response: httpx.Response) -> float | None:
    """Read ``Retry-After``: seconds or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_PAUSE)


Expected = TypeVar("Expected")


def _read(kind: type[Expected], done: _Done) -> Expected:
    try:
        return TypeAdapter(kind).validate_python(done.data)
    except ValidationError as error:
        raise TryAgain(f"SkyPortal's answer has an unexpected form: {error.errors()[0]['msg']}", away=True) from error


def _quoted(name: str) -> str:
    return quote(name, safe="")
