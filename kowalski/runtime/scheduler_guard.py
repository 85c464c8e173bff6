"""A Dask preload: a scheduler that does not grow with each batch it has handed out.

Dask keeps a span with its task groups for whatever it has computed, for ever, and begins another one whenever it had
nothing to do for a moment: with four batches a second that is 2 MB a minute. Nobody looks at them here, because each
stage is counted and timed by ourselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kowalski import garbage

if TYPE_CHECKING:
    from distributed import Scheduler


class NoSpans:
    """In place of Dask's extension ``spans``; to the scheduler it is not there, but workers still report to it."""

    def __bool__(self) -> bool:
        """Tell the scheduler that there is none."""
        return False

    def heartbeat(self, *_: object) -> None:
        """Take what a worker tells."""


def dask_setup(scheduler: Scheduler) -> None:
    """Take the extension's place; Dask calls this before the scheduler starts."""
    scheduler.extensions["spans"] = NoSpans()
    garbage.settle()
