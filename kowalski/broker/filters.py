"""Users' filters on a batch of stored alerts.

All filters with the same permissions share their first stages (match, drop stamps, join the object) in one aggregation
and get a ``$facet`` branch each: forty times cheaper than one aggregation per alert and filter. A filter that fails is
found by running the filters one by one, then alert by alert; it never costs another filter's passes.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database
from pymongo.errors import ExecutionTimeout, OperationFailure

from kowalski.archive import filters, names
from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.attribution import attribution
from kowalski.config.settings import Filters
from kowalski.surveys.base import Survey

Passes = dict[int, list[dict[str, Any]]]
"""Candid -> what each filter that it passed says of it."""

ANSWER: Document = {"$project": {"annotations": 1, "candid": 1}}
"""All that is needed of a filter's result; keeps a batch's answers far below MongoDB's 16 MB."""

TOO_LARGE = frozenset({10334, 17419, 17420, 4031700, 146})
"""MongoDB's codes for an answer or a stage that exceeds its size limits."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Group:
    """Filters that see the same alerts."""

    permissions: tuple[int, ...]
    together: list[tuple[ActiveFilter, str]] = field(default_factory=list)
    """Filters that run in one aggregation, each with the field by which its results are told apart."""
    alone: list[ActiveFilter] = field(default_factory=list)


class FilterRunner:
    """Runs the active filters of one survey; picks up changes within ``filters.reload_seconds``."""

    def __init__(self, data: Database[Document], system: Database[Document], survey: Survey, limits: Filters) -> None:
        self._alerts = data[survey.alerts]
        self._system = system
        self._survey = survey
        self._limits = limits
        self._groups: list[_Group] = []
        self._loaded_at: float | None = None
        self._failures: dict[tuple[int, str], int] = defaultdict(int)

    def run(self, candids: Sequence[int]) -> Passes:
        """Run every active filter on stored alerts.

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB can't do its part; what is a filter's own fault is counted and never raised.
        """
        self._reload_if_due()
        passes: Passes = defaultdict(list)
        for group in self._groups:
            if group.together:
                self._run_together(group, group.together, candids, passes)
            for one in group.alone:
                self._run_alert_by_alert(one, candids, passes)
        return passes

    def _reload_if_due(self) -> None:
        now = time.monotonic()
        if self._loaded_at is not None and now - self._loaded_at < self._limits.reload_seconds:
            return
        groups: dict[tuple[int, ...], _Group] = {}
        for one in filters.load_active(self._system, self._survey.alerts):
            permissions = tuple(sorted(set(one.permissions)))
            group = groups.setdefault(permissions, _Group(permissions))
            name = attribution(one.pipeline)
            if name is None or self._failures.get((one.filter_id, one.fid)):
                group.alone.append(one)
            else:
                group.together.append((one, name))
        self._groups, self._loaded_at = list(groups.values()), now

    def _run_together(
        self, group: _Group, chosen: list[tuple[ActiveFilter, str]], candids: Sequence[int], passes: Passes
    ) -> None:
        branches = {f"f{index}": [*one.pipeline, ANSWER] for index, (one, _) in enumerate(chosen)}
        limit, start = self._limits.batch_max_time_ms, time.monotonic()
        answer: Document | None = None
        try:
            (answer,) = self._aggregate(candids, group.permissions, [{"$facet": branches}], limit)
        except OperationFailure as error:
            self._check_prefix(candids, group.permissions)
            if error.code in TOO_LARGE and len(candids) > 1:
                half = len(candids) // 2
                self._run_together(group, chosen, candids[:half], passes)
                self._run_together(group, chosen, candids[half:], passes)
                return
        if answer is None or 1000.0 * (time.monotonic() - start) > limit:
            self._run_apart(group, chosen, candids, passes)
            return
        for index, (one, name) in enumerate(chosen):
            self._failures.pop((one.filter_id, one.fid), None)
            for result in answer[f"f{index}"]:
                passes[result[name]].append(_passed(one, result))

    def _run_apart(
        self, group: _Group, chosen: list[tuple[ActiveFilter, str]], candids: Sequence[int], passes: Passes
    ) -> None:
        """Find the filter that failed or took too long among those that ran together."""
        if len(chosen) == 1:
            self._run_alert_by_alert(chosen[0][0], candids, passes)
            return
        for single in chosen:
            self._run_together(group, [single], candids, passes)

    def _run_alert_by_alert(self, one: ActiveFilter, candids: Sequence[int], passes: Passes) -> None:
        """Run one filter on each alert; exactly one document means that the alert passes.

        MongoDB looks at its time limit between documents only, so the clock here has the last word.
        """
        limit, budget = self._limits.max_time_ms, self._limits.max_failures * self._limits.batch_max_time_ms
        spent = 0.0
        for candid in candids:
            start = time.monotonic()
            trouble: str | None = None
            results: list[Document] = []
            try:
                results = self._aggregate([candid], one.permissions, [*one.pipeline, ANSWER], limit)
            except OperationFailure as error:
                self._check_prefix([candid], one.permissions)
                trouble = _reason(error)
            taken = 1000.0 * (time.monotonic() - start)
            spent += taken
            if trouble is None and taken > limit:
                trouble = f"took {taken:.0f} ms for one alert"
            if spent > budget:
                self._switch_off(one, f"it took {spent:.0f} ms for a part of a batch")
                return
            if trouble is None:
                self._failures.pop((one.filter_id, one.fid), None)
                if len(results) == 1:
                    passes[candid].append(_passed(one, results[0]))
            elif self._give_up(one, trouble):
                return

    def _aggregate(
        self, candids: Sequence[int], permissions: Sequence[int], stages: list[Document], max_time_ms: int
    ) -> list[Document]:
        pipeline = self._survey.filter_prefix(candids, permissions) + stages
        return list(self._alerts.aggregate(pipeline, maxTimeMS=max_time_ms, allowDiskUse=False))

    def _check_prefix(self, candids: Sequence[int], permissions: Sequence[int]) -> None:
        """Run the shared first stages alone: if they fail too, it is MongoDB's trouble and not a filter's."""
        self._aggregate(candids, permissions, [{"$count": "n"}], 10 * self._limits.batch_max_time_ms)

    def _give_up(self, one: ActiveFilter, trouble: str) -> bool:
        """Count a failure; after too many without a success in between, switch the filter off. True if it is off."""
        key = (one.filter_id, one.fid)
        self._failures[key] += 1
        self._system[names.FILTER_STATISTICS].update_one(
            {"_id": {"filter_id": one.filter_id, "fid": one.fid}},
            {"$inc": {"errors": 1}, "$set": {"last_error": trouble}, "$currentDate": {"last_error_at": True}},
            upsert=True,
        )
        if self._failures[key] < self._limits.max_failures:
            return False
        self._switch_off(one, f"{self._failures.pop(key)} failures in a row; the last: {trouble}")
        return True

    def _switch_off(self, one: ActiveFilter, reason: str) -> None:
        log.warning("filter %s version %s is switched off: %s", one.filter_id, one.fid, reason)
        filters.suspend(self._system, one.filter_id, one.fid, reason)
        self._drop(one)

    def _drop(self, one: ActiveFilter) -> None:
        for group in self._groups:
            group.together = [(other, name) for other, name in group.together if other is not one]
            group.alone = [other for other in group.alone if other is not one]


def _reason(error: OperationFailure) -> str:
    kind = "took too long" if isinstance(error, ExecutionTimeout) else "failed"
    return f"{kind}: {str(error).split(', full error')[0]}"[:500]


def _passed(one: ActiveFilter, result: Document) -> dict[str, Any]:
    return {
        "group_id": one.group_id,
        "filter_id": one.filter_id,
        "fid": one.fid,
        "permissions": list(one.permissions),
        "update_annotations": one.update_annotations,
        "autosave": one.autosave,
        "annotations": result.get("annotations") or {},
    }
