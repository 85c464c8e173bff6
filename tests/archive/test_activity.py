from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from kowalski.archive import activity, names
from kowalski.archive.activity import Cost, Waiting, Work
from kowalski.archive.client import system_database
from kowalski.config import Settings

WITHIN = 10 ** (1 / 8)
"""By how much a quantile may be off: the width of a bin."""

times = st.lists(st.floats(0.05, 80_000.0), min_size=1, max_size=60)


@given(times, st.floats(0.01, 1.0))
def test_a_quantile_is_right_within_a_bin(seconds: list[float], part: float) -> None:
    waiting = Waiting()
    waiting.add(seconds)
    true = next(value for number, value in enumerate(sorted(seconds), start=1) if number >= part * len(seconds) - 1e-9)
    found = waiting.quantile(part)
    assert found is not None
    assert true / WITHIN * 0.999 <= found <= true * WITHIN * 1.001


@given(times, times)
def test_histograms_add_up(first: list[float], second: list[float]) -> None:
    together, one, other = Waiting(), Waiting(), Waiting()
    together.add(first + second)
    one.add(first)
    other.add(second)
    one.merge(other)
    assert one == together


def test_nothing_and_the_extremes() -> None:
    assert Waiting().quantile(0.5) is None
    waiting = Waiting()
    waiting.add([0.0])
    assert 0.0 <= (waiting.quantile(0.5) or 0.0) <= activity.EDGES[0]
    waiting.add([1e9] * 99)
    assert waiting.quantile(0.5) == activity.EDGES[-1]


def test_brokers_add_to_the_hour(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    system = system_database(mongo, settings)
    activity.ensure_indexes(system)
    hour = datetime(2024, 3, 1, 5, tzinfo=UTC)
    work = Work(10, 9, 2, 1, Waiting({3: 10}), {"store": Cost(0.5, 0.25)})
    for minutes in (0, 59):
        activity.add(system, "ZTF", work, hour + timedelta(minutes=minutes))
    activity.add(system, "ZTF", Work(5, 5), hour + timedelta(hours=1))
    activity.add(system, "LSST", work, hour - timedelta(hours=1))
    assert activity.since(system, hour + timedelta(minutes=30)) == {
        "ZTF": {
            hour: Work(20, 18, 4, 2, Waiting({3: 20}), {"store": Cost(1.0, 0.5)}),
            hour + timedelta(hours=1): Work(5, 5),
        }
    }
    information = system[names.ACTIVITY].index_information()
    assert information["hour"]["expireAfterSeconds"] == activity.KEPT.total_seconds()
