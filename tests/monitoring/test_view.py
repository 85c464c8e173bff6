"""What `top` makes of two looks at an instance's figures, and how those of several processes are put together."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kowalski.monitoring import gathered
from kowalski.monitoring.view import Look, compare


class Broker:
    """The figures of one process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.alerts = Counter("kowalski_alerts", "-", ["survey"], registry=registry)
        self.stage = Histogram("kowalski_stage_seconds", "-", ["survey", "stage"], registry=registry)
        self.cpu = Counter("kowalski_stage_cpu_seconds", "-", ["survey", "stage"], registry=registry)
        self.latency = Histogram(
            "kowalski_latency_seconds", "-", ["survey"], buckets=(1.0, 2.0, 4.0), registry=registry
        )
        self.flying = Gauge("kowalski_batches_in_flight", "-", ["survey"], registry=registry)
        self.other = Counter("something_else", "-", registry=registry)

    def work(self, alerts: int, latency: float) -> None:
        self.alerts.labels("A").inc(alerts)
        self.stage.labels("A", "decode").observe(0.001 * alerts)
        self.stage.labels("A", "store").observe(0.003 * alerts)
        self.cpu.labels("A", "decode").inc(0.0005 * alerts)
        for _ in range(alerts):
            self.latency.labels("A").observe(latency)
        self.flying.labels("A").set(2)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


def look(moment: float, *brokers: Broker) -> Look:
    return Look.of(moment, gathered.published({f"broker:{at}": each.text() for at, each in enumerate(brokers)}))


def test_rates_costs_and_latencies_are_those_between_the_looks() -> None:
    one, two = Broker(), Broker()
    one.work(1000, 0.5)
    before = look(10.0, one, two)
    one.work(100, 1.5)
    two.work(300, 3.0)
    view = compare(before, look(20.0, one, two))
    (line,) = view.surveys
    assert (line.survey, line.alerts, line.in_flight, line.lag) == ("A", pytest.approx(40.0), 4, None)
    # a quarter waited between 1 and 2 s, the rest between 2 and 4 s
    assert line.latency == {"p50": pytest.approx(2 + 2 / 3), "p99": pytest.approx(2 + 2 * (0.99 - 0.25) / 0.75)}
    slowest, other = view.stages
    assert (slowest.stage, slowest.wall, slowest.cpu) == ("store", pytest.approx(3.0), 0.0)
    assert (other.stage, other.wall, other.cpu) == ("decode", pytest.approx(1.0), pytest.approx(0.5))


def test_a_process_that_began_anew_has_done_what_it_shows() -> None:
    old, new = Broker(), Broker()
    old.work(1000, 0.5)
    new.work(50, 0.5)
    (line,) = compare(look(0.0, old), look(10.0, new)).surveys
    assert line.alerts == pytest.approx(5.0)


def test_where_nothing_happened_stages_show_what_they_took_so_far() -> None:
    broker = Broker()
    broker.work(1000, 0.5)
    view = compare(look(0.0, broker), look(10.0, broker))
    assert [line.alerts for line in view.surveys] == [0.0]
    assert view.surveys[0].latency == {"p50": None, "p99": None}
    assert [(line.stage, line.wall) for line in view.stages] == [
        ("store", pytest.approx(3.0)), ("decode", pytest.approx(1.0)),
    ]  # fmt: skip
    assert compare(look(0.0), look(1.0)).surveys == []


def test_samples_say_whose_they_are_and_others_are_left_out() -> None:
    broker = Broker()
    broker.work(7, 0.5)
    text = gathered.text(gathered.published({"broker:A": broker.text()})).decode()
    assert 'kowalski_alerts_total{service="broker:A",survey="A"} 7.0' in text
    assert "something_else" not in text
    assert "_created" not in text
