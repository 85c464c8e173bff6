"""What happens to an alert that passes a filter: shall it be saved, is follow-up to be asked for, and which.

The pipelines of these blocks run on the alerts that have passed, all of a batch together. Whatever is wrong with a
block, the pass itself is kept; ``troubles`` tells what was left out and why.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo.errors import OperationFailure

from kowalski.archive.automation import AutoFollowup
from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter, Automatic, Stage
from kowalski.archive.rules import Request, Saving, priority_key
from kowalski.broker.attribution import attribution
from kowalski.broker.evaluation import Evaluation, reason
from kowalski.config.settings import Filters

Pass = dict[str, Any]
Answers = dict[tuple[int, str, int], Document]
"""(filter, block, candid) -> the one document that a block's pipeline gave for an alert."""

ANSWER: Document = {"$project": {"comment": 1, "payload": 1, "candid": 1}}
PRIORITY = {"asc": 0, "desc": 5}
"""The least urgent priority, which a request has that names none."""
DATE = "%Y-%m-%dT%H:%M:%S.%f"


@dataclass(frozen=True, slots=True)
class Job:
    """A block's pipeline, to be run on alerts that have passed its filter."""

    filter: ActiveFilter
    block: str
    pipeline: list[Stage]
    passes: Mapping[int, Pass]

    @property
    def candids(self) -> list[int]:
        """The alerts to run on."""
        return list(self.passes)

    @property
    def key(self) -> tuple[int, str, str]:
        """Tells this version of the block from all others."""
        return self.filter.filter_id, self.block, json.dumps(self.pipeline, default=str)


class Automation:
    """Decides for one survey; remembers blocks that keep failing.

    Parameters
    ----------
    evaluation
        Runs stages on alerts.
    limits
        As for filters.
    tell
        Gets what is wrong with a filter's block.
    """

    def __init__(self, evaluation: Evaluation, limits: Filters, tell: Callable[[ActiveFilter, str], None]) -> None:
        self._evaluation = evaluation
        self._limits = limits
        self._tell = tell
        self._failures: dict[tuple[int, str, str], int] = defaultdict(int)

    def decide(self, passes: Mapping[int, list[Pass]], filters: Mapping[int, ActiveFilter], now: datetime) -> None:
        """Add ``autosave``, ``followup`` and ``troubles`` to passes (candid -> passes).

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB can't do its part.
        """
        by_filter: dict[int, dict[int, Pass]] = defaultdict(dict)
        for candid, found in passes.items():
            for one in found:
                one |= {"autosave": None, "followup": None, "troubles": dict(filters[one["filter_id"]].troubles)}
                by_filter[one["filter_id"]][candid] = one
        answers = self._answers([*self._jobs(by_filter, filters)])
        for filter_id, mine in by_filter.items():
            active = filters[filter_id]
            for candid, one in mine.items():
                self._decide_one(active, one, answers, candid, now)

    def _jobs(self, by_filter: Mapping[int, dict[int, Pass]], filters: Mapping[int, ActiveFilter]) -> Iterable[Job]:
        for filter_id, mine in by_filter.items():
            active = filters[filter_id]
            for block, automatic in (("autosave", active.saving), ("auto_followup", active.followup)):
                if automatic is None or not automatic.pipeline:
                    continue
                job = Job(active, block, automatic.pipeline, mine)
                failures = self._failures[job.key]
                if failures >= self._limits.max_failures:
                    for one in mine.values():
                        one["troubles"][block] = f"it failed {failures} times in a row; left out until it is changed"
                else:
                    yield job

    def _decide_one(
        self,
        active: ActiveFilter,
        one: Pass,
        answers: Answers,
        candid: int,
        now: datetime,
    ) -> None:
        saving, followup = active.saving, active.followup
        if saving is None or not self._holds(saving, (active.filter_id, "autosave", candid), answers):
            return
        block = saving.block
        saves = Saving(comment=block.comment, ignore_group_ids=block.ignore_group_ids, saver_id=block.saver_id)
        one["autosave"] = saves.model_dump()
        key = (active.filter_id, "auto_followup", candid)
        if followup is None or not self._holds(followup, key, answers):
            return
        try:
            asked = request(active.group_id, followup.block, block.ignore_group_ids, answers[key], now)
        except (TypeError, ValueError) as error:
            one["troubles"]["auto_followup"] = f"no request can be made of it: {error}"[:500]
        else:
            one["followup"] = asked.model_dump()

    @staticmethod
    def _holds(automatic: Automatic[Any], key: tuple[int, str, int], answers: Answers) -> bool:
        return not automatic.pipeline or key in answers

    def _answers(self, jobs: Sequence[Job]) -> Answers:
        """Run all pipelines."""
        groups: dict[tuple[int, ...], list[tuple[Job, str]]] = defaultdict(list)
        answers: Answers = {}
        for job in jobs:
            name = attribution(job.pipeline)
            if name is None or self._failures[job.key]:
                self._run_alone(job, answers)
            else:
                groups[tuple(sorted(set(job.filter.permissions)))].append((job, name))
        for permissions, chosen in groups.items():
            self._run_together(permissions, chosen, answers)
        return answers

    def _run_together(self, permissions: Sequence[int], chosen: list[tuple[Job, str]], answers: Answers) -> None:
        branches = {
            f"b{at}": [{"$match": {"_id": {"$in": job.candids}}}, *self._evaluation.woven(job.pipeline), ANSWER]
            for at, (job, _) in enumerate(chosen)
        }
        candids = sorted({candid for job, _ in chosen for candid in job.passes})
        limit, start = self._limits.batch_max_time_ms, time.monotonic()
        answer: Document | None = None
        try:
            (answer,) = self._evaluation.aggregate(candids, permissions, [{"$facet": branches}], limit)
        except OperationFailure:
            self._evaluation.check_prefix(candids, permissions)
        if answer is None or 1000.0 * (time.monotonic() - start) > limit:
            for job, _ in chosen:  # one of them is to blame, and no other must suffer for it
                self._run_alone(job, answers)
            return
        for at, (job, name) in enumerate(chosen):
            self._failures.pop(job.key, None)
            for document in answer[f"b{at}"]:
                answers[job.filter.filter_id, job.block, document[name]] = document

    def _run_alone(self, job: Job, answers: Answers) -> None:
        """Run a pipeline alert by alert; exactly one document means yes."""
        for candid, one in job.passes.items():
            if self._failures[job.key] >= self._limits.max_failures:
                one["troubles"][job.block] = "it keeps failing"
                continue
            found, trouble = self._run_one(job, candid)
            if trouble is not None:
                self._failures[job.key] += 1
                one["troubles"][job.block] = trouble
                self._tell(job.filter, f"{job.block}: {trouble}")
                continue
            self._failures.pop(job.key, None)
            if len(found) == 1:
                answers[job.filter.filter_id, job.block, candid] = found[0]

    def _run_one(self, job: Job, candid: int) -> tuple[list[Document], str | None]:
        """Run a pipeline on one alert: what came back, and what was wrong, if anything was.

        MongoDB looks at its time limit between documents only, so the clock here has the last word.
        """
        limit, start = self._limits.max_time_ms, time.monotonic()
        stages = [*self._evaluation.woven(job.pipeline), ANSWER]
        try:
            found = self._evaluation.aggregate([candid], job.filter.permissions, stages, limit)
        except OperationFailure as error:
            self._evaluation.check_prefix([candid], job.filter.permissions)
            return [], reason(error)
        taken = 1000.0 * (time.monotonic() - start)
        return found, f"took {taken:.0f} ms for one alert" if taken > limit else None


def request(
    group_id: int, block: AutoFollowup, ignored_groups: Sequence[int], answer: Mapping[str, Any], now: datetime
) -> Request:
    """Make a request of a block and of what its pipeline said of an alert.

    Parameters
    ----------
    group_id
        The filter's group.
    ignored_groups
        Groups whose sources are not to be followed up.
    answer
        The pipeline's document: ``comment`` and the values in ``payload`` take the place of the block's own; keys that
        the block's payload does not have are left out.
    now
        When the alert passed.

    Raises
    ------
    TypeError, ValueError
        If no request can be made of it: the text says why.
    """
    if block.allocation_id is None:
        raise ValueError("it has no allocation_id")
    order = block.priority_order or "asc"
    key = priority_key(block.payload)
    given = answer.get("payload") or {}
    if not isinstance(given, Mapping):
        raise TypeError("the pipeline's payload is no object")
    payload = {key: PRIORITY[order]} | block.payload
    payload |= {name: value for name, value in given.items() if name in payload}
    payload[key] = _number(key, payload[key])
    ends_at = None
    if key == "priority":
        ends_at = now + timedelta(days=block.validity_days)
        payload |= {"start_date": now.strftime(DATE), "end_date": ends_at.strftime(DATE)}
    comment = answer.get("comment") or block.comment
    return Request(
        allocation_id=block.allocation_id,
        payload=payload,
        priority_key=key,
        priority_order=order,
        comment=None if comment is None else f"{comment} ({key}: {payload[key]})",
        target_group_ids=sorted({group_id, *block.target_group_ids}),
        ignore_allocation_ids=block.ignore_allocation_ids,
        ignore_source_group_ids=list(ignored_groups),
        not_if_tns_reported=block.not_if_tns_reported,
        radius=block.radius,
        implements_update=block.implements_update,
        ends_at=ends_at,
    )


def _number(key: str, value: Any) -> int | float:
    """Read a priority: a number, or the text of one."""
    if isinstance(value, bool):
        raise TypeError(f"{key} must be a number, not {value}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{key} must be a finite number, not {value}")
    return int(number) if number.is_integer() else number
