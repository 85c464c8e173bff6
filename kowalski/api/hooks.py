"""What gunicorn calls while it serves the API; it takes this module as its configuration file.

The process that watches over the others imports it, and must not import any metrics: they would write files of its own.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from kowalski import garbage

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that names the folder where processes write their figures, as Prometheus's client has it."""


def on_starting(server: Any) -> None:
    """Begin with no figures, before there are processes that write some, and load what all of them share."""
    folder = Path(os.environ[FOLDER])
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    importlib.import_module("kowalski.api.transcoder")  # a compiler: 120 MB, which are there once for all of them
    garbage.settle()  # what the collector does not touch stays common


def child_exit(server: Any, worker: Any) -> None:
    """Leave out what holds only while a process lives, when it has ended."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
