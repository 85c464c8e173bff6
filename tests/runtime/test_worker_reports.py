"""What ``status`` makes of the reports of several workers, and of the courier's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kowalski.cli.status import _shortcomings
from kowalski.runtime.status import Status, _add_courier, _add_workers


def report(age: float = 0.0, **summary: Any) -> dict[str, Any]:
    return {"at": datetime.now(UTC) - timedelta(seconds=age), "surveys": {"ZTF": summary}}


def test_workers_are_summed_up() -> None:
    status = Status([])
    first = report(models={"braai": "d6_m9"}, absent_scores={"braai: stamps": 2, "bts: features": 1})
    second = report(missing_models={"bts": "no file"}, absent_scores={"braai: stamps": 3})
    gone = report(age=3600.0, models={"old": "v1"}, absent_scores={"braai: stamps": 100})
    _add_workers(status, [first, second, gone])
    assert status.models == {"ZTF": {"braai": "d6_m9"}}
    assert status.absent_scores == {"ZTF": {"braai: stamps": 5, "bts: features": 1}}
    assert _shortcomings(status) == [
        "ZTF: no score of bts: no file",
        "ZTF: 5 alerts without a score of braai: stamps",
        "ZTF: 1 alerts without a score of bts: features",
    ]


def test_a_courier_that_waits_says_why() -> None:
    status = Status([])
    said = {"away": True, "last_error": "GET /api/streams: 503"}
    _add_courier(status, [report() | said, report(age=3600.0) | said, report() | {"away": False, "last_error": "old"}])
    assert status.problems == ["the courier waits: GET /api/streams: 503"]
