"""The watcher that writes a performance report for each day that is over, and sends it to Slack if that is wanted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from kowalski.config.watchers import Report
from kowalski.watchers.base import Context, Outcome
from kowalski.watchers.web import Web

DAYS = 7
"""After a longer absence, so many days are reported."""


class ReportWatcher:
    """Writes reports of days that have none yet."""

    def __init__(self, context: Context[Report]) -> None:
        self._context = context

    def once(self) -> Outcome:
        """Report each day that is over and was not reported; one that Slack has not taken is sent again."""
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        known = self._context.memory.load().get("night")
        first = yesterday if known is None else date.fromisoformat(known) + timedelta(days=1)
        first = max(first, yesterday - timedelta(days=DAYS - 1))
        nights = [first + timedelta(days=number) for number in range((yesterday - first).days + 1)]
        for night in nights:
            self._report(night)
            self._context.memory.save(night=night.isoformat())
        written = ", ".join(f"{night:%Y-%m-%d}" for night in nights) or "no day"
        return Outcome(new=len(nights), summary=f"reported: {written}")

    def _report(self, night: date) -> None:
        from kowalski.performance import gathering, slack, writing  # matplotlib, which no other watcher needs

        own, context = self._context.own, self._context
        found = gathering.gather(context.system, night)
        path = context.settings.path.data / own.folder / f"{night:%Y%m%d}.{own.format}"
        writing.write(found, path)
        if own.to_slack:
            with Web(context.settings.watchers, own, context.wait) as web:
                slack.send(web, own, writing.text_of(found), path)
