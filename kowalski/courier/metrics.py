"""Prometheus metrics of the courier, which `kowalski.archive.figures` takes to whoever asks.

How much is in the outbox is asked of the database then, because it is to be known while no courier runs, too.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

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
