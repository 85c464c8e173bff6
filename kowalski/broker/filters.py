"""Users' filters in the broker: which ones run, how they do, and when one is switched off."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain

from pymongo.database import Database

from kowalski.archive import filter_statistics, filters
from kowalski.archive.client import Document
from kowalski.archive.filter_statistics import Statistics
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.attribution import attribution
from kowalski.broker.automation import Automation
from kowalski.broker.evaluation import Evaluation, Passes, new_passes
from kowalski.config.settings import Filters
from kowalski.surveys.base import Survey

log = logging.getLogger(__name__)


class FilterRunner:
    """Runs the active filters of one survey; picks up changes within ``filters.reload_seconds``.

    It is a `kowalski.broker.evaluation.Book`.

    Parameters
    ----------
    past_only
        Whether it runs on alerts of the archive: filters see of an object only what was measured before the alert, and
        how they do is not counted, because statistics are of alerts that come in.
    """

    def __init__(
        self,
        data: Database[Document],
        system: Database[Document],
        survey: Survey,
        limits: Filters,
        *,
        past_only: bool = False,
    ) -> None:
        self._system = system
        self._survey = survey
        self._limits = limits
        self._evaluation = Evaluation(data, survey, limits, book=self, past_only=past_only)
        self._counts = not past_only
        self._together: list[list[ActiveFilter]] = []
        """Filters with the same permissions that run in one aggregation."""
        self._alone: list[ActiveFilter] = []
        self._loaded_at: float | None = None
        self._failures: dict[tuple[int, str], int] = defaultdict(int)
        self._batches = 0
        self._statistics = Statistics()
        self._active: dict[int, ActiveFilter] = {}
        self._automation = Automation(self._evaluation, limits, self._tell)

    def run(self, candids: Sequence[int]) -> Passes:
        """Run every active filter on stored alerts.

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB can't do its part; what is a filter's own fault is counted and never raised.
        """
        self._reload_if_due()
        passes = new_passes()
        sampled = self._counts and self._batches % self._limits.sample_every == 0
        self._batches += 1
        for chosen in list(self._together):
            for part in [[one] for one in chosen] if sampled else [chosen]:
                self._evaluation.together(part, candids, passes)
        for one in list(self._alone):
            self._evaluation.alert_by_alert(one, candids, passes)
        self._automation.decide(passes, self._active, datetime.now(UTC))
        return passes

    def reload(self) -> None:
        """Let the next run see what users have changed until then."""
        self._loaded_at = None

    def write_statistics(self) -> None:
        """Write down how the filters have done since the last time; may be called from another thread.

        Raises
        ------
        pymongo.errors.PyMongoError
            If that is not possible; then it is kept for the next time.
        """
        self._statistics.write(self._system)

    def ran(self, one: ActiveFilter, alerts: int, passed: int, ms: float | None) -> None:
        """See `Book.ran`."""
        self._failures.pop((one.filter_id, one.fid), None)
        if self._counts:
            self._statistics.count((one.filter_id, one.fid), alerts, passed, ms)

    def failed(self, one: ActiveFilter, trouble: str, ms: float) -> bool:
        """See `Book.failed`: too many failures without a success in between switch a filter off."""
        key = (one.filter_id, one.fid)
        self._failures[key] += 1
        if self._counts:
            self._statistics.count(key, 1, 0, ms)
        filter_statistics.add_error(self._system, key, trouble)
        if self._failures[key] < self._limits.max_failures:
            return False
        self.switch_off(one, f"{self._failures.pop(key)} failures in a row; the last: {trouble}")
        return True

    def _tell(self, one: ActiveFilter, trouble: str) -> None:
        """Let the filter's owner know that a block of it fails; the filter itself goes on."""
        filter_statistics.add_error(self._system, (one.filter_id, one.fid), trouble)

    def switch_off(self, one: ActiveFilter, reason: str) -> None:
        """See `Book.switch_off`: until its owner activates it again."""
        log.warning("filter %s version %s is switched off: %s", one.filter_id, one.fid, reason)
        filters.suspend(self._system, one.filter_id, one.fid, reason)
        self._arrange([other for other in chain(*self._together, self._alone) if other is not one])

    def _reload_if_due(self) -> None:
        now = time.monotonic()
        if self._loaded_at is not None and now - self._loaded_at < self._limits.reload_seconds:
            return
        active = filters.load_active(self._system, self._survey.alerts)
        for one in active:
            known = self._active.get(one.filter_id)
            if one.troubles and (known is None or known.troubles != one.troubles):
                log.warning("filter %s: left out: %s", one.filter_id, dict(one.troubles))
        self._active = {one.filter_id: one for one in active}
        self._arrange(active)
        self._loaded_at = now

    def _arrange(self, active: Iterable[ActiveFilter]) -> None:
        groups: dict[frozenset[int], list[ActiveFilter]] = defaultdict(list)
        self._alone = []
        for one in active:
            if attribution(one.pipeline) is None or self._failures.get((one.filter_id, one.fid)):
                self._alone.append(one)
            else:
                groups[frozenset(one.permissions)].append(one)
        self._together = list(groups.values())
