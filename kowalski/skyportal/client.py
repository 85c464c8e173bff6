"""SkyPortal's API as typed calls, as far as a broker needs it (https://skyportal.io/docs/api.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from itertools import count
from typing import TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from kowalski.config.outlets import SkyPortal as SkyPortalSettings
from kowalski.courier.errors import TryAgain
from kowalski.skyportal.payloads import (
    Annotation,
    AnnotationPost,
    AnnotationPut,
    CandidatePost,
    Comment,
    CommentPost,
    FollowupAnswer,
    FollowupPost,
    FollowupPut,
    FollowupRequest,
    FollowupRequests,
    Group,
    Named,
    PhotometryPut,
    Saved,
    SourceGroup,
    SourcePage,
    SourcePost,
    ThumbnailPost,
)
from kowalski.skyportal.transport import Done, Observer, Transport

PAGE = 1000
"""Follow-up requests per page: the most that SkyPortal gives."""
SOURCES_PAGE = 500
"""Sources per page, likewise."""


class SkyPortal:
    """One connection pool to a SkyPortal; close it with `aclose`. Every call may raise a `DeliveryError`.

    Parameters
    ----------
    settings
        Where it is, the token, time-outs and how many calls run at once.
    observe
        Told of every call.
    """

    def __init__(self, settings: SkyPortalSettings, observe: Observer | None = None) -> None:
        self._transport = Transport(settings, observe)
        self._settle = settings.settle_seconds

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def instruments(self, name: str) -> list[Named]:
        """Find instruments by name."""
        return _read(list[Named], await self._transport.call("GET", "/api/instrument", {"name": name}))

    async def streams(self) -> list[Named]:
        """List the alert streams: what users may see is split by them."""
        return _read(list[Named], await self._transport.call("GET", "/api/streams"))

    async def group(self, group_id: int) -> Group:
        """Read a group and the names of its filters."""
        params = {"includeGroupUsers": "False"}
        return _read(Group, await self._transport.call("GET", f"/api/groups/{group_id}", params))

    async def knows(self, object_id: str) -> bool:
        """Tell whether SkyPortal has the object, as a candidate or as a source."""
        for kind in ("candidates", "sources"):
            done = await self._transport.call("HEAD", f"/api/{kind}/{_quoted(object_id)}")
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
        await self._transport.call("POST", "/api/candidates", body=candidate)

    async def annotations(self, object_id: str) -> list[Annotation]:
        """List an object's annotations."""
        done = await self._transport.call("GET", f"/api/sources/{_quoted(object_id)}/annotations")
        return _read(list[Annotation], done)

    async def post_annotation(self, annotation: AnnotationPost) -> None:
        """Annotate an object."""
        await self._transport.call("POST", f"/api/sources/{_quoted(annotation.obj_id)}/annotations", body=annotation)

    async def put_annotation(self, annotation_id: int, annotation: AnnotationPut) -> None:
        """Replace an annotation."""
        path = f"/api/sources/{_quoted(annotation.obj_id)}/annotations/{annotation_id}"
        await self._transport.call("PUT", path, body=annotation)

    async def put_photometry(self, photometry: PhotometryPut, *, overwrite: bool = False) -> None:
        """Send a light curve; with ``overwrite``, a point of the same time and origin takes the new flux."""
        flags = {"duplicate_ignore_flux": "true", "overwrite_flux": "true"} if overwrite else None
        await self._transport.call("PUT", "/api/photometry", flags, body=photometry)

    async def post_thumbnail(self, thumbnail: ThumbnailPost) -> None:
        """Send a picture of an object."""
        await self._transport.call("POST", "/api/thumbnail", body=thumbnail)

    async def source_groups(self, object_id: str) -> list[SourceGroup]:
        """List the groups that hold the object as a source."""
        done = await self._transport.call("GET", f"/api/sources/{_quoted(object_id)}/groups")
        return _read(list[SourceGroup], done)

    async def post_source(self, source: SourcePost) -> Saved:
        """Save an object to groups; a group that holds it stays as it is."""
        return _read(Saved, await self._transport.call("POST", "/api/sources", body=source))

    async def sources_since(self, moment: datetime | None) -> AsyncIterator[list[str]]:
        """List the names of sources made or changed since ``moment`` (UTC), page by page; None: of all."""
        since = {} if moment is None else {"createdOrModifiedAfter": moment.replace(tzinfo=None).isoformat()}
        for number in count(1):
            page = {**since, "numPerPage": f"{SOURCES_PAGE}", "pageNumber": f"{number}"}
            answer = _read(SourcePage, await self._transport.call("GET", "/api/sources", page))
            yield [each.id for each in answer.sources]
            if len(answer.sources) < SOURCES_PAGE:
                return

    async def comments(self, object_id: str) -> list[Comment]:
        """List the comments on an object that the token may see."""
        done = await self._transport.call("GET", f"/api/sources/{_quoted(object_id)}/comments")
        return _read(list[Comment], done)

    async def post_comment(self, object_id: str, comment: CommentPost) -> None:
        """Comment on an object; made twice, it is there twice."""
        path = f"/api/sources/{_quoted(object_id)}/comments"
        await self._transport.call("POST", path, body=comment, patience=self._settle)

    async def followup_requests(self, object_id: str) -> list[FollowupRequest]:
        """List the follow-up requests for an object, oldest first."""
        found: list[FollowupRequest] = []
        while True:
            page = {"sourceID": object_id, "numPerPage": f"{PAGE}", "pageNumber": f"{len(found) // PAGE + 1}"}
            answer = _read(FollowupRequests, await self._transport.call("GET", "/api/followup_request", page))
            found += answer.followup_requests
            if len(answer.followup_requests) < PAGE:
                # sourceID finds parts of names, too
                return [each for each in found if each.obj_id == object_id]

    async def post_followup(self, request: FollowupPost) -> FollowupAnswer:
        """Ask for follow-up; made twice, it may be observed twice."""
        done = await self._transport.call("POST", "/api/followup_request", body=request, patience=self._settle)
        return _read(FollowupAnswer, done)

    async def put_followup(self, request_id: int, change: FollowupPut) -> None:
        """Change the payload of a follow-up request."""
        await self._transport.call("PUT", f"/api/followup_request/{request_id}", body=change)


Expected = TypeVar("Expected")


def _read(kind: type[Expected], done: Done) -> Expected:
    try:
        return TypeAdapter(kind).validate_python(done.data)
    except ValidationError as error:
        reason = f"SkyPortal's answer has an unexpected form: {error.errors()[0]['msg']}"
        raise TryAgain(reason, away=True, lost=True) from error


def _quoted(name: str) -> str:
    return quote(name, safe="")
