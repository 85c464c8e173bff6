"""Batches on a real Dask cluster: who gets the next free worker, and what the scheduler keeps of what is done."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distributed import Client

from kowalski.broker.dispatch import Dispatcher
from kowalski.broker.pipeline import BatchReport
from kowalski.testing import services

PATIENCE = 60.0
BACKLOG = 4


def test_a_backlog_holds_up_no_other_survey_and_leaves_nothing_behind(
    dask_cluster: services.DaskCluster, tmp_path: Path
) -> None:
    order, gate = tmp_path / "order", tmp_path / "gate"

    def work(job: SimpleNamespace) -> BatchReport:
        while not job.gate.exists():
            time.sleep(0.01)
        with job.order.open("a") as file:
            file.write(f"{job.survey} ")
        return BatchReport(packets=1)

    def count(dask_scheduler: Any) -> int:
        return len(dask_scheduler.tasks)

    def kept(dask_scheduler: Any) -> int:
        return sum(type(one).__name__ == "Span" for one in gc.get_objects())

    busy = Dispatcher[SimpleNamespace](dask_cluster.address, work)
    other = Dispatcher[SimpleNamespace](dask_cluster.address, work)
    with Client(dask_cluster.address, set_as_default=False) as client:
        for number in range(BACKLOG):
            busy.submit(number, SimpleNamespace(survey="busy", size=1, gate=gate, order=order))
        _wait_until(lambda: client.run_on_scheduler(count) == BACKLOG)
        other.submit(0, SimpleNamespace(survey="other", size=1, gate=gate, order=order))
        _wait_until(lambda: client.run_on_scheduler(count) == BACKLOG + 1)
        gate.touch()
        done = {"busy": 0, "other": 0}
        deadline = time.monotonic() + PATIENCE
        while sum(done.values()) < BACKLOG + 1:
            assert time.monotonic() < deadline, done
            for finished in [*busy.collect(), *other.collect()]:
                assert finished.report is not None
                done[finished.ticket.survey] += finished.report.packets
            time.sleep(0.01)
        assert order.read_text().split() == ["busy", "other", *["busy"] * (BACKLOG - 1)]
        assert client.run_on_scheduler(kept) == 0
    busy.close()
    other.close()


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
