"""One whole instance for all system tests, with SkyPortal's stand-in beside it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kowalski.config import PROJECT
from kowalski.testing import instance as instances
from kowalski.testing import services


class FakeSkyPortal:
    """SkyPortal's stand-in in a process of its own; it keeps what it got in a file."""

    def __init__(self, folder: Any) -> None:
        (self.port,) = services.free_ports(1)
        command = [sys.executable, "-m", "kowalski.testing.skyportal", "--port", str(self.port)]
        command += ["--state", str(folder / "skyportal.json")]
        self.process = services.Process("skyportal", command, {"PYTHONPATH": str(PROJECT)}, folder / "skyportal.log")

    def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/_fake/state")
                return
            except httpx.HTTPError:
                self.process.check()
                assert time.monotonic() < deadline, "the fake SkyPortal does not start"
                time.sleep(0.1)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/_fake/state", timeout=30).json()
        return found


@pytest.fixture(scope="session")
def skyportal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSkyPortal]:
    fake = FakeSkyPortal(tmp_path_factory.mktemp("skyportal"))
    fake.start()
    yield fake
    fake.process.stop(5)


@pytest.fixture(scope="session")
def kowalski(tmp_path_factory: pytest.TempPathFactory, skyportal: FakeSkyPortal) -> Iterator[instances.Instance]:
    """The instance: ``up`` was run, ``down`` will be."""
    run = tmp_path_factory.mktemp("kowalski") / "run"
    data = os.environ.get("KOWALSKI_SAMPLE_DATA")
    paths = {"run": str(run)} | ({"models": f"{data}/models"} if data else {})
    portal = {
        "enabled": True,
        "port": skyportal.port,
        "host": "127.0.0.1",
        "token": "a-token",
        "backoff_max_seconds": 2,
    }
    dask = {"n_workers": 2, "dashboard_port": None}
    with instances.running(
        run, path=paths, skyportal=portal, dask={**dask, "scheduler_port": services.free_ports(1)[0]}
    ) as found:
        yield found
