"""How users' filters are run on stored alerts: by the broker on each batch, by a dry run on a night of the archive.

Filters with the same permissions share their first stages (match, drop stamps, join the object) in one aggregation and
get a ``$facet`` branch each: forty times cheaper than one aggregation per alert and filter. A filter that fails is
found by running the filters one by one, then alert by alert; it never costs another filter's passes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from pymongo.database import Database
from pymongo.errors import ExecutionTimeout, OperationFailure

from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.attribution import attribution
from kowalski.config.settings import Filters
from kowalski.surveys import joins
from kowalski.surveys.base import Survey

Passes = dict[int, list[dict[str, Any]]]
"""Candid -> what each filter that it passed says of it."""

ANSWER: Document = {"$project": {"annotations": 1, "candid": 1}}
"""All that is needed of a filter's result; keeps a batch's answers far below MongoDB's 16 MB."""

TOO_LARGE = frozenset({10334, 17419, 17420, 4031700, 146})
"""MongoDB's codes for an answer or a stage that exceeds its size limits."""


class Book(Protocol):
    """Keeps the account of filters, and decides when one has failed too often."""

    def ran(self, one: ActiveFilter, alerts: int, passed: int, ms: float | None) -> None:
        """Filter ``one`` ran on some alerts; ``ms`` is how long it took, None if it shared an aggregation."""

    def failed(self, one: ActiveFilter, trouble: str, ms: float) -> bool:
        """It failed on one alert; returns whether it is switched off now."""

    def switch_off(self, one: ActiveFilter, reason: str) -> None:
        """It must not run any more."""


class Evaluation:
    """Runs filters on alerts of one survey.

    Parameters
    ----------
    data
        The data database.
    limits
        How long filters may take.
    book
        Is told how they do.
    past_only
        Whether filters see of an object only what was measured before the alert, as they did when it came in.
    """

    def __init__(
        self, data: Database[Document], survey: Survey, limits: Filters, book: Book, *, past_only: bool = False
    ) -> None:
        self._alerts = data[survey.alerts]
        self._survey = survey
        self._limits = limits
        self._book = book
        self._past_only = past_only
        self._woven: dict[tuple[int, str], list[Document]] = {}

    def one(self, one: ActiveFilter, candids: Sequence[int], passes: Passes) -> None:
        """Run one filter; what it passes is added to ``passes``."""
        if attribution(one.pipeline) is None:
            self.alert_by_alert(one, candids, passes)
        else:
            self.together([one], candids, passes)

    def together(self, chosen: Sequence[ActiveFilter], candids: Sequence[int], passes: Passes) -> None:
        """Run filters that have the same permissions and an `attribution` each; passes are added to ``passes``.

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB can't do its part; what is a filter's own fault goes into the book and is never raised.
        """
        branches = {f"f{index}": self._stages(one) for index, one in enumerate(chosen)}
        permissions = chosen[0].permissions
        limit, start = self._limits.batch_max_time_ms, time.monotonic()
        answer: Document | None = None
        try:
            (answer,) = self.aggregate(candids, permissions, [{"$facet": branches}], limit)
        except OperationFailure as error:
            self.check_prefix(candids, permissions)
            if error.code in TOO_LARGE and len(candids) > 1:
                half = len(candids) // 2
                self.together(chosen, candids[:half], passes)
                self.together(chosen, candids[half:], passes)
                return
        taken = _since(start)
        if answer is None or taken > limit:
            self._apart(chosen, candids, passes)
            return
        for index, one in enumerate(chosen):
            name, results = attribution(one.pipeline) or "_id", answer[f"f{index}"]
            self._book.ran(one, len(candids), len(results), taken if len(chosen) == 1 else None)
            for result in results:
                passes[result[name]].append(_passed(one, result))

    def _apart(self, chosen: Sequence[ActiveFilter], candids: Sequence[int], passes: Passes) -> None:
        """Find the filter that failed or took too long among those that ran together."""
        if len(chosen) == 1:
            self.alert_by_alert(chosen[0], candids, passes)
            return
        for single in chosen:
            self.together([single], candids, passes)

    def alert_by_alert(self, one: ActiveFilter, candids: Sequence[int], passes: Passes) -> None:
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
                results = self.aggregate([candid], one.permissions, self._stages(one), limit)
            except OperationFailure as error:
                self.check_prefix([candid], one.permissions)
                trouble = reason(error)
            taken = _since(start)
            spent += taken
            if trouble is None and taken > limit:
                trouble = f"took {taken:.0f} ms for one alert"
            if spent > budget:
                self._book.switch_off(one, f"it took {spent:.0f} ms for a part of a batch")
                return
            if trouble is None:
                passed = len(results) == 1
                self._book.ran(one, 1, int(passed), taken)
                if passed:
                    passes[candid].append(_passed(one, results[0]))
            elif self._book.failed(one, trouble, taken):
                return

    def woven(self, pipeline: Sequence[Document]) -> list[Document]:
        """Give a pipeline with the look-ups of other surveys that it uses."""
        return joins.woven(self._survey, pipeline, past_only=self._past_only)

    def _stages(self, one: ActiveFilter) -> list[Document]:
        """What runs for a filter; made once per version, because all pipelines are looked through for it."""
        key = (one.filter_id, one.fid)
        if key not in self._woven:
            self._woven[key] = [*self.woven(one.pipeline), ANSWER]
        return self._woven[key]

    def aggregate(
        self, candids: Sequence[int], permissions: Sequence[int], stages: list[Document], max_time_ms: int
    ) -> list[Document]:
        """Run stages on alerts behind the survey's first ones."""
        prefix = self._survey.filter_prefix(candids, permissions, past_only=self._past_only)
        return list(self._alerts.aggregate(prefix + stages, maxTimeMS=max_time_ms, allowDiskUse=False))

    def check_prefix(self, candids: Sequence[int], permissions: Sequence[int]) -> None:
        """Run the shared first stages alone: if they fail too, it is MongoDB's trouble and not a filter's."""
        self.aggregate(candids, permissions, [{"$count": "n"}], 10 * self._limits.batch_max_time_ms)


def stages_on_archive(
    survey: Survey, one: ActiveFilter, object_ids: Sequence[str] | None, span: tuple[float, float] | None
) -> list[Document]:
    """Build a pipeline that gives what a filter makes of alerts of the archive, as it saw them when they came in.

    Parameters
    ----------
    object_ids
        Objects whose alerts to take; None for all.
    span
        First and last Julian date (UTC) of the alerts; None for any.
    """
    first, *rest = survey.filter_prefix(None, one.permissions, past_only=True)
    match = dict(first["$match"])
    if object_ids:
        match[survey.object_id_field] = {"$in": list(object_ids)}
    if span is not None:
        match["candidate.jd"] = {"$gte": span[0], "$lte": span[1]}
    return [{"$match": match}, *rest, *joins.woven(survey, one.pipeline, past_only=True)]


def new_passes() -> Passes:
    """Make room for passes."""
    return defaultdict(list)


def _since(start: float) -> float:
    return 1000.0 * (time.monotonic() - start)


def reason(error: OperationFailure) -> str:
    """Say in a line why an aggregation failed."""
    kind = "took too long" if isinstance(error, ExecutionTimeout) else "failed"
    return f"{kind}: {str(error).split(', full error')[0]}"[:500]


def _passed(one: ActiveFilter, result: Document) -> dict[str, Any]:
    return {
        "group_id": one.group_id,
        "filter_id": one.filter_id,
        "fid": one.fid,
        "permissions": list(one.permissions),
        "update_annotations": one.update_annotations,
        "outlets": one.outlets,
        "annotations": result.get("annotations") or {},
    }
