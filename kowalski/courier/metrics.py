"""Prometheus metrics of the courier; exposed on ``skyportal.metrics_port`` when that is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

OUTBOX = Gauge("kowalski_outbox_documents", "Alerts in an outlet's outbox", ["outlet", "state"])
OLDEST = Gauge("kowalski_outbox_oldest_seconds", "Seconds since the oldest pending alert passed; 0: none", ["outlet"])
AWAY = Gauge("kowalski_outlet_away", "1 while nothing has succeeded since the outlet was away", ["outlet"])
DELIVERED = Counter("kowalski_outbox_delivered", "Alerts delivered with all their passes", ["outlet"])
CALLS = Counter("kowalski_outlet_calls", "Calls of an outlet, by how they ended", ["outlet", "call", "outcome"])
CALL_SECONDS = Histogram(
    "kowalski_outlet_call_seconds",
    "Seconds of one call",
    ["outlet", "call"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
)


def observer(outlet: str) -> Callable[[str, str, float], None]:
    """Make a function that counts calls: (kind of call, how it ended, seconds)."""

    def observe(call: str, outcome: str, seconds: float) -> None:
        CALLS.labels(outlet, call, outcome).inc()
        CALL_SECONDS.labels(outlet, call).observe(seconds)

    return observe


def show_backlog(outlet: str, report: Mapping[str, Any]) -> None:
    """Show the courier's report."""
    OUTBOX.labels(outlet, "pending").set(report["backlog"])
    OUTBOX.labels(outlet, "failed").set(report["failed"])
    OLDEST.labels(outlet).set(report["oldest_seconds"] or 0.0)
    AWAY.labels(outlet).set(report["away"])
