"""Memory of services that run for months: Python's garbage collector, and Arrow's pool."""

from __future__ import annotations

import gc

ARROW_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Variable of processes that read tables: the pool that Arrow brings keeps 50 MB that it no longer needs."""


def settle() -> None:
    """Take what a service has loaded at its start for permanent.

    The collector looks through everything only once what came since the last time is a quarter of what there is. Beside
    the hundreds of thousands of objects of the packages that is tens of megabytes of rubbish; beside none of them it is
    little, and looking through it is quick.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # so that it knows how little is left
