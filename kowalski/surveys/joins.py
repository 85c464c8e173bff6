"""Light curves of other surveys in a user's filter: joined by aliases, and only where the pipeline uses them.

A pipeline that names another survey, as in ``$LSST.prv_candidates``, finds under that name the histories of the objects
that are the alert's object in that survey, all of them in one list per history, as if the field had been there from the
beginning. The stages that look them up stand right before the first stage that uses them (or might drop what they
need), so that alerts which earlier stages drop cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kowalski.surveys import SURVEYS
from kowalski.surveys.base import Stage, Survey

KEEPING = frozenset({"$match", "$addFields", "$set", "$redact"})
"""Stages after which the fields are still there by which others are joined: an alert's time, its object's aliases."""
PREFIXES = r"(?:^|^\$|^\$\$(?:ROOT|CURRENT)\.)"


def woven(survey: Survey, pipeline: Sequence[Stage], *, past_only: bool = False) -> list[Stage]:
    """Put the look-ups of other surveys into a pipeline where it first uses them; most pipelines stay as they are.

    Parameters
    ----------
    survey
        Whose alerts the pipeline runs on, behind `Survey.filter_prefix`.
    past_only
        As there.
    """
    others = {name: other for name, other in SURVEYS.items() if other is not survey}
    pattern = re.compile(rf"{PREFIXES}({'|'.join(map(re.escape, others))})(?:\.|$)")
    stages: list[Stage] = []
    joined: set[str] = set()
    place: int | None = None
    for stage in pipeline:
        for name in sorted({found[1] for text in _texts(stage) if (found := pattern.match(text))} - joined):
            look_ups = _look_ups(others[name], past_only=past_only)
            at = len(stages) if place is None else place
            stages[at:at] = look_ups
            joined.add(name)
        if place is None and not _keeps(stage):
            place = len(stages)
        stages.append(stage)
    return stages


def _keeps(stage: Stage) -> bool:
    """Whether the fields by which others are joined survive a stage."""
    operator, spec = next(iter(stage.items()), ("", {}))
    written = {key.split(".")[0] for key in spec} if operator in ("$addFields", "$set") else set()
    return operator in KEEPING and not {"candidate", "aliases"} & written


def _texts(value: Any) -> Iterator[str]:
    """All strings of a stage, be they keys or values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _look_ups(other: Survey, *, past_only: bool) -> list[Stage]:
    """Build the stages that join the objects of another survey, as far as everybody may see them."""
    rows: Stage = {
        history.name: other.visible_rows(
            history, {"$ifNull": [f"${history.name}", []]}, "$$jd", sorted(other.public_programs), past_only=past_only
        )
        for history in other.histories
    }
    together: Stage = {
        history.name: {
            "$reduce": {
                "input": f"${other.name}.{history.name}",
                "initialValue": [],
                "in": {"$concatArrays": ["$$value", "$$this"]},
            }
        }
        for history in other.histories
    }
    look_up: Stage = {
        "from": other.objects,
        "localField": f"aliases.{other.name}",
        "foreignField": "_id",
        "let": {"jd": "$candidate.jd"},
        "pipeline": [{"$project": rows}],
        "as": other.name,
    }
    # An operator, because a plain document would be laid over each element of the looked-up list.
    return [{"$lookup": look_up}, {"$addFields": {other.name: {"$mergeObjects": [together]}}}]
