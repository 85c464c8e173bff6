from __future__ import annotations

import asyncio

import pytest
from distributed import Client, Scheduler, Worker

from kowalski.runtime import worker_guard

GUARD = "kowalski.runtime.worker_guard"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_guard, "PERIOD_MS", 100)


async def test_a_worker_that_outgrew_its_memory_leaves() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, memory_limit="64 GB", preload=[GUARD]) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        answer = client.submit(lambda: "done")
        assert await asyncio.wait_for(answer, 30) == "done"
        answer.release()
        await asyncio.sleep(0.5)
        assert worker.status.name == "running"
        worker.memory_manager.memory_limit = 2**20
        await asyncio.wait_for(worker.finished(), 30)
        assert worker.status.name == "closed"


async def test_without_a_limit_there_is_nothing_to_watch() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, memory_limit=0, preload=[GUARD]) as worker,
    ):
        assert "kowalski-memory" not in worker.periodic_callbacks
