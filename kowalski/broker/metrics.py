"""Prometheus metrics of the broker; exposed on ``broker.metrics_port`` when that is set."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

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
PASSES = Counter("kowalski_filter_passes", "Passes of users' filters", ["survey"])
REJECTED = Counter("kowalski_rejected_packets", "Packets written to dead letters", ["survey"])


def observe(survey: str, report: BatchReport) -> None:
    """Add a finished batch to the metrics."""
    BATCH_PACKETS.labels(survey).observe(report.packets)
    ALERTS.labels(survey).inc(report.alerts)
    PASSES.labels(survey).inc(report.passes)
    REJECTED.labels(survey).inc(report.rejected)
    for stage, times in report.stages.items():
        STAGE_SECONDS.labels(survey, stage).observe(times.wall)
        STAGE_CPU_SECONDS.labels(survey, stage).inc(times.cpu)
