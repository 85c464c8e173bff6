"""SkyPortal's stand-in as a process of its own, which keeps what it got in a file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx

from kowalski.config import PROJECT
from kowalski.testing import services

PATIENCE = 30.0


class Standin:
    """The stand-in, on a free port.

    Parameters
    ----------
    folder
        Where its memory and its log are.
    """

    def __init__(self, folder: Path) -> None:
        (self.port,) = services.free_ports(1)
        command = [sys.executable, "-m", "kowalski.testing.skyportal", "--port", str(self.port)]
        command += ["--state", str(folder / "skyportal.json")]
        self.process = services.Process("skyportal", command, {"PYTHONPATH": str(PROJECT)}, folder / "skyportal.log")

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        ServiceError, TimeoutError
            If it does not.
        """
        self.process.start()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.state()
                return
            except httpx.HTTPError as error:
                self.process.check()
                if time.monotonic() > deadline:
                    raise TimeoutError("SkyPortal's stand-in does not start") from error
                time.sleep(0.1)

    def state(self) -> dict[str, Any]:
        """Give all that it holds."""
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/_fake/state", timeout=PATIENCE).json()
        return found

    def fail(self, *rules: dict[str, Any]) -> None:
        """Have it fail by these rules (`kowalski.testing.skyportal.faults.Fault`); none: not at all."""
        answer = httpx.post(f"http://127.0.0.1:{self.port}/_fake/faults", json={"rules": list(rules)}, timeout=PATIENCE)
        answer.raise_for_status()
