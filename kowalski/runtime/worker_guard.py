"""A Dask preload: a worker that has outgrown its memory limit leaves after its batch and is replaced.

Loaded by ``dask worker --preload kowalski.runtime.worker_guard``; it does what Dask's nanny does with a worker that
takes too much memory, without the nanny's process and without losing the batch in hand; the supervisor starts another.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psutil
from tornado.ioloop import PeriodicCallback

if TYPE_CHECKING:
    from distributed import Worker

PERIOD_MS = 2000

logger = logging.getLogger("kowalski.worker")


def dask_setup(worker: Worker) -> None:
    """Watch the memory of ``worker`` from its event loop; Dask calls this before the worker starts."""
    if not worker.memory_manager.memory_limit:
        return
    process = psutil.Process()

    async def watch() -> None:
        resident, limit = process.memory_info().rss, worker.memory_manager.memory_limit or 0
        if resident > limit and worker.status.name == "running":
            logger.warning(
                "%d MB of memory are over dask.memory_limit (%d MB): this worker finishes its batch and is replaced",
                resident // 2**20,
                limit // 2**20,
            )
            await worker.close_gracefully(reason="kowalski-memory-limit")

    callback = PeriodicCallback(watch, PERIOD_MS)
    worker.periodic_callbacks["kowalski-memory"] = callback  # the worker stops it when it closes
    callback.start()
