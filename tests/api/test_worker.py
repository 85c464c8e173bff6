"""The processes that serve the API come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from kowalski.testing import services

SLOW = """\
import pathlib, time

def create_app():
    pathlib.Path({started!r}).touch()
    time.sleep(3600)
"""


def test_a_process_can_be_ended_while_it_loads(tmp_path: Path) -> None:
    """By its own will, not by force when gunicorn's patience is at an end."""
    started = tmp_path / "started"
    (tmp_path / "slow.py").write_text(SLOW.format(started=str(started)))
    argv = [sys.executable, "-m", "gunicorn", "slow:create_app()", "--pythonpath", str(tmp_path), "--no-control-socket"]
    argv += ["--worker-class", "kowalski.api.worker.Worker", "--workers", "1", "--graceful-timeout", "30"]
    (port,) = services.free_ports(1)
    server = services.Process("api", [*argv, "--bind", f"127.0.0.1:{port}"], {}, tmp_path / "log")
    server.start()
    try:
        deadline = time.monotonic() + 60
        while not started.exists():
            server.check()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        server.stop()
    log = server.log.read_text()
    assert log.count("Worker exiting") == log.count("Booting worker") > 0


SHARED = """\
import gc, sys
from kowalski.api import hooks
hooks.on_starting(None)
loaded = [name in sys.modules for name in ("kowalski.api.transcoder", "prometheus_client")]
print(gc.get_freeze_count() > 10_000, *loaded)
"""


def test_what_all_share_is_loaded_once_and_no_metrics(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    done = subprocess.run(
        [sys.executable, "-c", SHARED], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["True", "True", "False"]
