"""What `top` shows: rates, queues and costs between two looks at an instance's figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prometheus_client.metrics_core import Metric

Labels = tuple[tuple[str, str], ...]
QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Look:
    """An instance's figures at one moment (seconds of any clock)."""

    moment: float
    values: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def of(cls, moment: float, found: Iterable[Metric]) -> Look:
        """Take the samples of ``found``; those of several processes that differ in nothing else are added up."""
        values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        for family in found:
            for sample in family.samples:
                labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "service"))
                values[sample.name][labels] += sample.value
        return cls(moment, values)

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Sum a figure up by some of its labels."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for own, value in self.values.get(name, {}).items():
            known = dict(own)
            sums[tuple(known.get(label, "") for label in labels)] += value
        return dict(sums)


@dataclass(frozen=True, slots=True)
class SurveyLine:
    """One survey: rates per second, what waits, and how old alerts are when they are done (seconds)."""

    survey: str
    alerts: float
    passes: float
    rejected: float
    batch: float | None
    lag: int | None
    in_flight: int
    waiting: int
    latency: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage: milliseconds per alert, wall-clock and CPU of the worker."""

    survey: str
    stage: str
    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class FilterLine:
    """One filter since it was counted: milliseconds per alert where it was timed, passes per alert, errors."""

    filter: int
    ms: float | None
    pass_rate: float | None
    errors: int


@dataclass(frozen=True, slots=True)
class View:
    """All that `top` shows; ``seconds`` lie between the looks."""

    seconds: float
    surveys: list[SurveyLine]
    stages: list[StageLine]
    filters: list[FilterLine]
    outbox: Mapping[str, int]
    outbox_age: float
    dead_letters: int
    down: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return asdict(self)


def compare(before: Look, after: Look) -> View:
    """Tell what has happened between two looks; without any work in between, stages show what they took so far."""
    outbox = {state: int(number) for (state,), number in after.by("kowalski_outbox_documents", "state").items()}
    return View(
        seconds=after.moment - before.moment,
        surveys=_surveys(before, after),
        stages=_stages(before, after),
        filters=_filters(after),
        outbox=outbox,
        outbox_age=max(after.by("kowalski_outbox_oldest_seconds", "outlet").values(), default=0.0),
        dead_letters=int(sum(after.by("kowalski_dead_letters", "survey").values())),
        down=[part for (part,), value in after.by("kowalski_up", "part").items() if not value],
    )


def _surveys(before: Look, after: Look) -> list[SurveyLine]:
    seconds = max(after.moment - before.moment, 1e-9)
    rates = {
        name: _increase(before, after, f"kowalski_{name}", "survey")
        for name in ("alerts_total", "passes_total", "rejected_packets_total")
    }
    batches = _increase(before, after, "kowalski_batch_packets_count", "survey")
    packets = _increase(before, after, "kowalski_batch_packets_sum", "survey")
    lag = after.by("kowalski_lag_messages", "survey")
    flying, waiting = (after.by(f"kowalski_batches_{what}", "survey") for what in ("in_flight", "waiting"))
    lines = []
    for key in sorted({*after.by("kowalski_batches_in_flight", "survey"), *lag}):
        (survey,) = key
        lines.append(
            SurveyLine(
                survey=survey,
                alerts=rates["alerts_total"].get(key, 0.0) / seconds,
                passes=rates["passes_total"].get(key, 0.0) / seconds,
                rejected=rates["rejected_packets_total"].get(key, 0.0) / seconds,
                batch=packets[key] / batches[key] if batches.get(key) else None,
                lag=int(lag[key]) if key in lag else None,
                in_flight=int(flying.get(key, 0)),
                waiting=int(waiting.get(key, 0)),
                latency={name: _quantile(before, after, survey, part) for name, part in QUANTILES.items()},
            )
        )
    return lines


def _stages(before: Look, after: Look) -> list[StageLine]:
    """List the stages, slowest first."""
    worked = _increase(before, after, "kowalski_alerts_total", "survey")
    if not any(worked.values()):
        before = Look(before.moment, {})
        worked = after.by("kowalski_alerts_total", "survey")
    wall = _increase(before, after, "kowalski_stage_seconds_sum", "survey", "stage")
    cpu = _increase(before, after, "kowalski_stage_cpu_seconds_total", "survey", "stage")
    lines = [
        StageLine(survey, stage, 1000.0 * seconds / number, 1000.0 * cpu.get((survey, stage), 0.0) / number)
        for (survey, stage), seconds in wall.items()
        if (number := worked.get((survey,), 0.0))
    ]
    return sorted(lines, key=lambda line: -line.wall)


def _filters(after: Look) -> list[FilterLine]:
    """List the filters, dearest first."""
    counted = {
        name: after.by(f"kowalski_filter_{name}_total", "filter")
        for name in ("alerts", "passes", "errors", "timed_alerts", "timed_seconds")
    }
    lines = [
        FilterLine(
            filter=int(key[0]),
            ms=1000.0 * counted["timed_seconds"][key] / timed if (timed := counted["timed_alerts"][key]) else None,
            pass_rate=counted["passes"][key] / number if number else None,
            errors=int(counted["errors"][key]),
        )
        for key, number in counted["alerts"].items()
        if key != ("",)
    ]
    return sorted(lines, key=lambda line: -(line.ms or 0.0))


def _increase(before: Look, after: Look, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """How much counters have grown; one that has begun anew has grown by what it shows."""
    earlier = before.by(name, *labels)
    return {
        key: value - earlier.get(key, 0.0) if value >= earlier.get(key, 0.0) else value
        for key, value in after.by(name, *labels).items()
    }


def _quantile(before: Look, after: Look, survey: str, part: float) -> float | None:
    """Estimate a quantile of the latency between two looks, as Prometheus does: even within a bucket."""
    grown = _increase(before, after, "kowalski_latency_seconds_bucket", "survey", "le")
    buckets = sorted((float(le), number) for (own, le), number in grown.items() if own == survey)
    if not buckets or not buckets[-1][1]:
        return None
    wanted, lower, below = part * buckets[-1][1], 0.0, 0.0
    for upper, number in buckets:
        if number >= wanted:
            return lower if upper == float("inf") else lower + (upper - lower) * (wanted - below) / (number - below)
        lower, below = upper, number
    return None
