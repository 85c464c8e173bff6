"""Whether other surveys' alerts flow, by their brokers' reports."""

from __future__ import annotations

from typing import Any

import pytest

from kowalski.broker.neighbours import Neighbours

OTHER = "broker:LSST"


def flow(*looks: list[dict[str, Any]]) -> list[bool]:
    neighbours, found = Neighbours([OTHER]), []
    for reports in looks:
        neighbours.look(reports)
        found.append(neighbours.flow)
    return found


def report(name: str = OTHER, packets: int = 0, in_flight: int = 0) -> dict[str, Any]:
    return {"_id": name, "packets": packets, "in_flight": in_flight}


def test_a_count_that_moves_is_a_flow_for_some_time() -> None:
    assert flow([report(packets=5)], [report(packets=5)], [report(packets=6)], [report(packets=6)]) == [
        False,
        False,
        True,
        True,
    ]


def test_a_batch_that_is_stuck_is_a_flow() -> None:
    assert flow([report(packets=5, in_flight=1)]) == [True]


def test_a_flow_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kowalski.broker.neighbours.FLOWS_SECONDS", 0.0)
    assert flow([report(in_flight=1)]) == [False]


@pytest.mark.parametrize("name", ["broker:ZTF", "courier"])
def test_who_does_not_share_the_workers_does_not_count(name: str) -> None:
    assert flow([report(name)], [report(name, packets=7, in_flight=2)]) == [False, False]
