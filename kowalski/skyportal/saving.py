"""Autosave: objects become sources of the groups whose filters ask for it, each with the filter's comment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kowalski.archive.rules import Saving
from kowalski.courier.errors import Refused
from kowalski.courier.progress import Progress
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.payloads import CommentPost, SourcePost

SAVE = "save"
"""Step that says that every group has been dealt with."""

Wishes = dict[int, list[Saving]]
"""Group -> how its filters want the object to be saved."""


class Saver:
    """Saves one object, as its passes ask for."""

    def __init__(self, skyportal: SkyPortal, progress: Progress, passes: Mapping[str, Mapping[str, Any]]) -> None:
        self._skyportal = skyportal
        self._progress = progress
        self._object_id: str = progress.document["objectId"]
        self._passes = {
            key: (int(one["group_id"]), Saving.model_validate(one["autosave"]))
            for key, one in passes.items()
            if one["autosave"]
        }

    async def save(self) -> None:
        """Save the object to the groups that do not hold it yet.

        Which those are is on record before the first call, so that after an interruption it is still known for which
        groups it was this alert that saved the object: they get the comments.
        """
        progress = self._progress
        if not self._passes or not progress.is_left(SAVE):
            return
        progress.check()
        holding = {group.id for group in await self._skyportal.source_groups(self._object_id)}
        plan: list[int] | None = progress.document.get("saving")
        if plan is None:
            plan = sorted({group for group, _ in self._passes.values()} - holding)
            await progress.record(saving=plan)
        saved = set(plan) & holding  # an interrupted attempt has got there
        wishes: Wishes = {}
        for group, saving in self._passes.values():
            if group in plan and group not in saved and progress.is_left(f"{SAVE}:{group}"):
                wishes.setdefault(group, []).append(saving)
        saved |= await self._save_all(wishes)
        # Groups that were refused may be asked for again by an operator: then the step must not be done.
        done = () if any(f"{SAVE}:{group}" in progress.refused for group in plan) else (SAVE,)
        await progress.record(*done, saved=sorted(saved))

    async def _save_all(self, wishes: Wishes) -> set[int]:
        """Save to as many groups with one call as their filters' conditions allow; returns those that have taken it."""
        saved: set[int] = set()
        while wishes:
            first = {group: wanted[0] for group, wanted in wishes.items()}
            try:
                saved |= await self._post(first)
            except Refused:
                for group, wanted in first.items():  # one that is wrong must not keep the others out
                    saved |= await self._post_alone(group, wanted)
            # Another filter of a group may want it saved where the first one does not.
            wishes = {group: wanted[1:] for group, wanted in wishes.items() if wanted[1:] and group not in saved}
        return saved

    async def _post_alone(self, group: int, wanted: Saving) -> set[int]:
        try:
            return await self._post({group: wanted})
        except Refused as error:
            await self._progress.refuse(f"{SAVE}:{group}", str(error))
            return set()

    async def _post(self, groups: Mapping[int, Saving]) -> set[int]:
        self._progress.check()
        source = SourcePost(
            id=self._object_id,
            group_ids=list(groups),
            ignore_if_in_group_ids={
                str(group): saving.ignore_group_ids for group, saving in groups.items() if saving.ignore_group_ids
            },
            saver_per_group_id={
                str(group): saving.saver_id for group, saving in groups.items() if saving.saver_id is not None
            },
        )
        answer = await self._skyportal.post_source(source)
        return set(groups) if answer.saved_to_groups is None else set(answer.saved_to_groups)

    async def comment(self) -> None:
        """Post the comments of filters whose groups have got the object by this alert."""
        saved = set(self._progress.document.get("saved") or ())
        for key, (group, saving) in self._passes.items():
            if saving.comment and group in saved:
                comment = CommentPost(text=saving.comment, group_ids=[group])
                await post_comment(self._skyportal, self._progress, f"comment:{key}", comment)


async def post_comment(skyportal: SkyPortal, progress: Progress, step: str, comment: CommentPost) -> None:
    """Post a comment unless the object has it.

    Raises
    ------
    NotYet
        If an earlier call of this step may still have its effect.
    """
    if not progress.is_left(step):
        return
    progress.check()
    progress.was_begun(step)
    object_id = progress.document["objectId"]
    wanted = set(comment.group_ids)
    for there in await skyportal.comments(object_id):
        seen_by = {group.id for group in there.groups}
        if there.text == comment.text and (not there.groups or wanted <= seen_by):
            await progress.record(step)
            return
    try:
        await progress.once(step, partial(skyportal.post_comment, object_id, comment))
    except Refused as error:
        await progress.refuse(step, str(error))
    else:
        await progress.record(step)
