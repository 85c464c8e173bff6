from __future__ import annotations

import asyncio

import pytest
from distributed import Client, Scheduler, Worker

from kowalski.runtime import worker_guard

GUARD = "kowalski.runtime.worker_guard"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_guard, "PERIOD_MS", 100)


async def test_a_worker_that_outgrew_its_memory_finishes_its_task_and_leaves() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, memory_limit="1 MB", preload=[GUARD]) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        answer = client.submit(lambda: "done")
        await asyncio.wait_for(worker.finished(), 30)
        assert worker.status.name == "closed"
        async with Worker(scheduler.address, memory_limit="64 GB", preload=[GUARD]) as other:
            assert await asyncio.wait_for(answer, 30) == "done"  # by one of the two
            await asyncio.sleep(0.5)
            assert other.status.name == "running"


async def test_without_a_limit_there_is_nothing_to_watch() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, memory_limit=0, preload=[GUARD]) as worker,
    ):
        assert "kowalski-memory" not in worker.periodic_callbacks
