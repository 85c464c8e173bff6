"""Prometheus metrics of a broker, which `kowalski.archive.figures` takes to whoever asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from kowalski.archive.activity import EDGES
from kowalski.broker.pipeline import BatchReport

STAGE_SECONDS = Histogram(
    "kowalski_stage_seconds",
    "Wall-clock seconds of one stage for one batch",
    ["survey", "stage"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
STAGE_CPU_SECONDS = Counter("kowalski_stage_cpu_seconds", "CPU seconds of workers by stage", ["survey", "stage"])
BATCH_PACKETS = Histogram(
    "kowalski_batch_packets", "Packets in a batch", ["survey"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
ALERTS = Counter("kowalski_alerts", "Alerts processed", ["survey"])
PASSES = Counter("kowalski_passes", "Passes of users' filters", ["survey"])
REJECTED = Counter("kowalski_rejected_packets", "Packets written to dead letters", ["survey"])
LATENCY = Histogram(
    "kowalski_latency_seconds",
    "From Kafka's timestamp of a packet until all its effects are durable, to a third of itself",
    ["survey"],
    buckets=EDGES[:41:2],
)
IN_FLIGHT = Gauge("kowalski_batches_in_flight", "Batches that workers have", ["survey"])
IN_FLIGHT_BYTES = Gauge("kowalski_bytes_in_flight", "Size of the batches that workers have", ["survey"])
WAITING = Gauge("kowalski_batches_waiting", "Batches that wait to be handed to workers", ["survey"])
PAUSED = Gauge("kowalski_broker_paused", "1 while nothing more is taken from Kafka", ["survey"])
TROUBLED = Gauge("kowalski_broker_troubled", "1 while something that the broker depends on does not work", ["survey"])


def observe(survey: str, report: BatchReport) -> None:
    """Add a finished batch to the metrics."""
    BATCH_PACKETS.labels(survey).observe(report.packets)
    ALERTS.labels(survey).inc(report.alerts)
    PASSES.labels(survey).inc(report.passes)
    REJECTED.labels(survey).inc(report.rejected)
    latency = LATENCY.labels(survey)
    for number, count in report.waiting.items():
        typical = math.sqrt(EDGES[max(number - 1, 0)] * EDGES[min(number, len(EDGES) - 1)])
        for _ in range(count):
            latency.observe(typical)
    for stage, times in report.stages.items():
        STAGE_SECONDS.labels(survey, stage).observe(times.wall)
        STAGE_CPU_SECONDS.labels(survey, stage).inc(times.cpu)


def show(survey: str, state: Mapping[str, Any]) -> None:
    """Show what the broker is busy with."""
    IN_FLIGHT.labels(survey).set(state["in_flight"])
    IN_FLIGHT_BYTES.labels(survey).set(state["in_flight_bytes"])
    WAITING.labels(survey).set(state["waiting"])
    PAUSED.labels(survey).set(state["paused"])
    TROUBLED.labels(survey).set(state["trouble"] is not None)
