"""One outbox document on its way to SkyPortal: the calls it takes, each recorded as soon as it is done.

Whenever it is interrupted, the next attempt starts with the call that has not been recorded. That call may have been
made: SkyPortal refuses a repeated candidate, keeps one point per measurement, one picture per kind and one source per
group, and annotations are looked up before they are made, so repeating any of them leaves what making it once leaves.
Comments and follow-up requests are looked up, too, after their effect can no longer be on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Any, Literal

from pymongo.asynchronous.database import AsyncDatabase

from kowalski import surveys
from kowalski.archive import known_objects
from kowalski.archive.client import Document
from kowalski.archive.curves import Curves
from kowalski.courier.errors import Refused
from kowalski.courier.progress import Progress, passes_to_deliver
from kowalski.science import stamps, thumbnails
from kowalski.science.photometry import LightCurve
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.directory import Directory
from kowalski.skyportal.followups import Allocations, Requester
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
from kowalski.skyportal.saving import Saver

log = logging.getLogger(__name__)

PHOTOMETRY = "photometry"
"""Step that says that all light curves are done."""
THUMBNAILS = ("thumbnail:new", "thumbnail:ref", "thumbnail:sub")


@dataclass(frozen=True, slots=True)
class Tools:
    """What a delivery works with."""

    skyportal: SkyPortal
    directory: Directory
    material: Material
    locks: Allocations
    system: AsyncDatabase[Document]


class Delivery:
    """The delivery of one document, as far as earlier attempts have not got."""

    def __init__(self, tools: Tools, progress: Progress) -> None:
        self._tools = tools
        self._progress = progress
        self._document = document = progress.document
        self._survey = surveys.get(document["_id"]["survey"])
        self._candid: int = document["_id"]["candid"]
        self._object_id: str = document["objectId"]
        self._passes = passes_to_deliver(document)
        self._known: bool | None = document.get("known")

    @property
    def refused(self) -> dict[str, str]:
        """Step -> why SkyPortal refused it, earlier attempts included."""
        return self._progress.refused

    async def run(self) -> None:
        """Make the calls that are left.

        Raises
        ------
        TryAgain
            If SkyPortal can't take one of them now.
        NotYet
            If the effect of an earlier call may be on its way.
        Stopped
            If the courier is to end.
        """
        if self._known is None:  # must be on record before the first call makes SkyPortal know the object
            self._known = await self._tools.skyportal.knows(self._object_id)
            await self._progress.record(known=self._known)
        if not self._known and not self._passes:
            await known_objects.forget(self._tools.system, self._object_id)
            return
        await self._candidates()
        if not self._known and not any(self._progress.is_done(_candidate(key)) for key in self._passes):
            return  # every filter was refused: SkyPortal has no object to add to
        await known_objects.add(self._tools.system, [self._object_id])
        taken = {key: one for key, one in self._passes.items() if _candidate(key) not in self.refused}
        saver = Saver(self._tools.skyportal, self._progress, taken)
        await self._annotations(taken)
        if self._known:
            await saver.save()
            await self._photometry()
        else:
            await self._photometry()
            await self._thumbnails()
            await saver.save()
        await saver.comment()
        await Requester(self._tools.skyportal, self._tools.locks, self._progress, taken).run()

    async def _candidates(self) -> None:
        """Announce the alert: one call for all filters that passed at the same time."""
        left = sorted(
            ((key, one) for key, one in self._passes.items() if self._progress.is_left(_candidate(key))),
            key=lambda item: item[1]["passed_at"],
        )
        for moment, passes in groupby(left, key=lambda item: item[1]["passed_at"]):
            filters = {_candidate(key): int(one["filter_id"]) for key, one in passes}
            self._progress.check()
            try:
                await self._announce(filters, moment)
            except Refused:
                # All or nothing: one filter that is gone, or there already, must not keep the others out.
                for step, filter_id in filters.items():
                    await self._progress.do(step, partial(self._announce, {step: filter_id}, moment))
            else:
                await self._progress.record(*filters)

    async def _announce(self, filters: Mapping[str, int], moment: Any) -> None:
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

    async def _annotations(self, passes: Mapping[str, Mapping[str, Any]]) -> None:
        """Send what the filters say of the object, one annotation per filter."""
        left = {
            key: one
            for key, one in passes.items()
            if one["annotations"] and self._progress.is_left(f"annotation:{key}")
        }
        if not left:
            return
        self._progress.check()
        there = {each.origin: each for each in await self._tools.skyportal.annotations(self._object_id)}
        for key, one in left.items():
            await self._progress.do(f"annotation:{key}", partial(self._annotate, one, there))

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
        """Send light curves, split by who may see them: all of a new object, what the packet brought of another."""
        if not self._progress.is_left(PHOTOMETRY) or self._document["photometry"] is None:
            return
        curves = Curves.of(self._document["photometry"])
        if self._known:
            curves = curves.recent()
        taken = True
        for program, curve in curves.alerts.by_program().items():
            step = f"{PHOTOMETRY}:{program}"
            taken &= await self._progress.do(step, partial(self._put_curve, program, curve, None))
        for program, curve in curves.forced.by_program().items():
            step = f"{PHOTOMETRY}:{program}:forced"
            taken &= await self._progress.do(step, partial(self._put_curve, program, curve, FORCED_ORIGIN))
        if taken:
            await self._progress.record(PHOTOMETRY)

    async def _put_curve(self, program: int, curve: LightCurve, origin: str | None) -> None:
        stream = self._survey.streams.get(program)
        if stream is None:
            raise Refused(f"{self._survey.name} declares no stream for program {program}")
        photometry = PhotometryPut.of(
            curve,
            obj_id=self._object_id,
            stream_id=await self._tools.directory.stream_id(stream, self._survey.stream_words),
            instrument_id=await self._tools.directory.instrument_id(self._survey.instrument),
            origin=origin,
        )
        await self._tools.skyportal.put_photometry(photometry, overwrite=origin is not None)

    async def _thumbnails(self) -> None:
        """Send a picture of each stamp."""
        if not any(self._progress.is_left(step) for step in THUMBNAILS):
            return
        found = await self._tools.material.stamps(self._survey, self._candid)
        await self._progress.do(THUMBNAILS[0], partial(self._post_thumbnail, "new", found.science))
        await self._progress.do(THUMBNAILS[1], partial(self._post_thumbnail, "ref", found.template))
        await self._progress.do(THUMBNAILS[2], partial(self._post_thumbnail, "sub", found.difference))

    async def _post_thumbnail(self, ttype: Literal["new", "ref", "sub"], stamp: bytes | None) -> None:
        if stamp is None:
            return
        try:
            image = stamps.read(stamp)
        except stamps.StampError as error:
            log.warning("alert %d has no %s thumbnail: %s", self._candid, ttype, error)
            return
        orientation, stretch = self._survey.stamp_orientation, self._survey.stamp_stretch
        png = thumbnails.render(image, orientation=orientation, log=ttype != "sub", stretch=stretch)
        await self._tools.skyportal.post_thumbnail(ThumbnailPost.of(png, obj_id=self._object_id, ttype=ttype))


def _candidate(key: str) -> str:
    return f"candidate:{key}"
