"""One outbox document on its way to SkyPortal: the calls it takes, each recorded as soon as it is done.

Whenever it is interrupted, the next attempt starts with the call that has not been recorded. That call may have been
made: SkyPortal refuses a repeated candidate, keeps one point per measurement and one picture per kind, and annotations
are looked up before they are made, so repeating any of them leaves what making it once leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any, Literal

from kowalski import surveys
from kowalski.archive.client import Document
from kowalski.archive.outbox import Queue
from kowalski.science import stamps, thumbnails
from kowalski.science.photometry import LightCurve
from kowalski.skyportal.client import AlreadyThere, Refused, SkyPortal
from kowalski.skyportal.directory import Directory
from kowalski.skyportal.material import Material
from kowalski.skyportal.payloads import (
    FORCED_ORIGIN,
    Annotation,
    AnnotationPost,
    AnnotationPut,
    CandidatePost,
    PhotometryPut,
    ThumbnailPost,
)

log = logging.getLogger(__name__)

Call = Callable[[], Awaitable[None]]

PHOTOMETRY = "photometry"
"""Step that says that all light curves are done."""
THUMBNAILS = ("thumbnail:new", "thumbnail:ref", "thumbnail:sub")


class Stopped(Exception):
    """The courier is to end; what is left to do stays in the outbox."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a delivery works with."""

    skyportal: SkyPortal
    directory: Directory
    queue: Queue
    material: Material
    stopping: Callable[[], bool]


class Delivery:
    """The delivery of one document, as far as earlier attempts have not got.

    Attributes
    ----------
    refused
        Step -> why SkyPortal refused it, earlier attempts included.
    """

    def __init__(self, tools: Tools, document: Document) -> None:
        self._tools = tools
        self._document = document
        self._survey = surveys.get(document["_id"]["survey"])
        self._candid: int = document["_id"]["candid"]
        self._object_id: str = document["objectId"]
        self._passes = {key: one for key, one in document["passes"].items() if one["deliver"]}
        self._done = set(document["steps"])
        self._known: bool | None = document.get("known")
        self.refused: dict[str, str] = dict(document["refused"])

    async def run(self) -> None:
        """Make the calls that are left.

        Raises
        ------
        TryAgain
            If SkyPortal can't take one of them now.
        Stopped
            If the courier is to end.
        """
        if self._known is None:  # must be on record before the first call makes SkyPortal know the object
            self._known = await self._tools.skyportal.knows(self._object_id)
            await self._tools.queue.record(self._document["_id"], [], known=self._known)
        await self._candidates()
        if not self._known and not any(_candidate(key) in self._done for key in self._passes):
            return  # every filter was refused: SkyPortal has no object to add to
        await self._annotations()
        await self._photometry()
        if not self._known:
            await self._thumbnails()

    async def _candidates(self) -> None:
        """Announce the alert: one call for all filters that passed at the same time."""
        left = sorted(
            ((key, one) for key, one in self._passes.items() if self._is_left(_candidate(key))),
            key=lambda item: item[1]["passed_at"],
        )
        for moment, passes in groupby(left, key=lambda item: item[1]["passed_at"]):
            filters = {_candidate(key): int(one["filter_id"]) for key, one in passes}
            try:
                await self._announce(filters, moment)
            except Refused:
                # All or nothing: one filter that is gone, or there already, must not keep the others out.
                for step, filter_id in filters.items():
                    await self._do(step, partial(self._announce, {step: filter_id}, moment))
            else:
                await self._record(*filters)

    async def _announce(self, filters: Mapping[str, int], moment: datetime) -> None:
        self._check()
        facts = self._document
        candidate = CandidatePost(
            id=self._object_id,
            ra=facts["ra"],
            dec=facts["dec"],
            score=facts["score"],
            filter_ids=list(filters.values()),
            passing_alert_id=self._candid,
            # Two alerts of one object may pass in the same millisecond, and SkyPortal would take them for one.
            passed_at=moment + timedelta(microseconds=self._candid % 1000),
        )
        await self._tools.skyportal.post_candidate(candidate)

    async def _annotations(self) -> None:
        """Send what the filters say of the object, one annotation per filter."""
        left = {
            key: one
            for key, one in self._passes.items()
            if one["annotations"] and self._is_left(f"annotation:{key}") and _candidate(key) not in self.refused
        }
        if not left:
            return
        self._check()
        there = {each.origin: each for each in await self._tools.skyportal.annotations(self._object_id)}
        for key, one in left.items():
            await self._do(f"annotation:{key}", partial(self._annotate, one, there))

    async def _annotate(self, one: Mapping[str, Any], there: Mapping[str, Annotation]) -> None:
        origin = await self._tools.directory.origin(one["group_id"], one["filter_id"])
        content = {
            "obj_id": self._object_id,
            "origin": origin,
            "data": one["annotations"],
            "group_ids": [one["group_id"]],
        }
        if origin not in there:
            await self._tools.skyportal.post_annotation(AnnotationPost(**content))
        elif one["update_annotations"]:
            known = there[origin]
            await self._tools.skyportal.put_annotation(known.id, AnnotationPut(author_id=known.author_id, **content))

    async def _photometry(self) -> None:
        """Send the object's light curves, split by who may see them."""
        if not self._is_left(PHOTOMETRY):
            return
        curves = await self._tools.material.light_curves(self._survey, self._candid, self._object_id)
        for program, curve in curves.alerts.by_program().items():
            await self._do(f"{PHOTOMETRY}:{program}", partial(self._put_curve, program, curve, None))
        for program, curve in curves.forced.by_program().items():
            await self._do(f"{PHOTOMETRY}:{program}:forced", partial(self._put_curve, program, curve, FORCED_ORIGIN))
        await self._record(PHOTOMETRY)

    async def _put_curve(self, program: int, curve: LightCurve, origin: str | None) -> None:
        stream = self._survey.streams.get(program)
        if stream is None:
            raise Refused(f"{self._survey.name} declares no stream for program {program}")
        photometry = PhotometryPut.of(
            curve,
            obj_id=self._object_id,
            stream_id=await self._tools.directory.stream_id(stream),
            instrument_id=await self._tools.directory.instrument_id(self._survey.instrument),
            origin=origin,
        )
        await self._tools.skyportal.put_photometry(photometry, overwrite=origin is not None)

    async def _thumbnails(self) -> None:
        """Send a picture of each stamp."""
        if not any(self._is_left(step) for step in THUMBNAILS):
            return
        found = await self._tools.material.stamps(self._survey, self._candid)
        await self._do(THUMBNAILS[0], partial(self._post_thumbnail, "new", found.science))
        await self._do(THUMBNAILS[1], partial(self._post_thumbnail, "ref", found.template))
        await self._do(THUMBNAILS[2], partial(self._post_thumbnail, "sub", found.difference))

    async def _post_thumbnail(self, ttype: Literal["new", "ref", "sub"], stamp: bytes | None) -> None:
        if stamp is None:
            return
        try:
            image = stamps.read(stamp)
        except stamps.StampError as error:
            log.warning("alert %d has no %s thumbnail: %s", self._candid, ttype, error)
            return
        png = thumbnails.render(image, orientation=self._survey.stamp_orientation, log=ttype != "sub")
        await self._tools.skyportal.post_thumbnail(ThumbnailPost.of(png, obj_id=self._object_id, ttype=ttype))

    def _is_left(self, step: str) -> bool:
        return step not in self._done and step not in self.refused

    def _check(self) -> None:
        if self._tools.stopping():
            raise Stopped

    async def _do(self, step: str, call: Call) -> None:
        """Make a call unless it is done, and record how it ended."""
        if not self._is_left(step):
            return
        self._check()
        try:
            await call()
        except AlreadyThere:
            await self._record(step)
        except Refused as error:
            self.refused[step] = str(error)
            await self._tools.queue.refuse(self._document["_id"], step, str(error))
        else:
            await self._record(step)

    async def _record(self, *steps: str) -> None:
        self._done.update(steps)
        await self._tools.queue.record(self._document["_id"], steps)


def _candidate(key: str) -> str:
    return f"candidate:{key}"
