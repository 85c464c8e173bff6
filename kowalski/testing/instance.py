"""A whole instance of Kowalski, driven through its command as an operator would: for system and fault tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kowalski.config import PROJECT, Settings, load
from kowalski.runtime import status
from kowalski.testing import services

PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance with ports and a run folder of its own.

    Attributes
    ----------
    config
        Its configuration file.
    environment
        Variables for its processes, on top of those of this one.
    """

    config: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings as its services see them; secrets are there from the first `up` on."""
        return load(self.config, environ={}).settings

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.settings.server.port}"

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``./kowalski.py`` with arguments.

        Raises
        ------
        AssertionError
            If it fails though it should not; the text is what it printed.
        """
        command = [sys.executable, "-m", "kowalski.cli", "--config", str(self.config), *arguments]
        environment = _environment() | dict(self.environment)
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=600, env=environment)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def status(self) -> dict[str, Any]:
        """Give what ``status --json`` tells, without the second that a new process takes to start."""
        return status.gather(self.settings).as_dict()

    def pid(self, service: str) -> int | None:
        """Process id of a service, None if it does not run."""
        return next((line["pid"] for line in self.status()["services"] if line["name"] == service), None)

    def kill(self, service: str) -> int:
        """End a service's process as a crash would; returns the id it had."""
        pid = self.pid(service)
        if pid is None:
            raise AssertionError(f"{service} does not run")
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_until_well(self) -> None:
        """Wait until every service does its work."""
        self.wait(lambda: bool(self.status()["ok"]), "not every service does its work")

    def wait(self, condition: Callable[[], bool], trouble: str, patience: float = PATIENCE) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{trouble}: {json.dumps(self.status(), indent=1, default=str)}")
            time.sleep(0.5)


@contextmanager
def running(
    run: Path, environment: Mapping[str, str] | None = None, **sections: Mapping[str, Any]
) -> Iterator[Instance]:
    """Run an instance below folder ``run`` until the block ends; ``sections`` are settings of it."""
    services.new_settings(run, **sections)
    instance = Instance(run / "config.yaml", environment or {})
    try:
        instance.cli("up")
        yield instance
    finally:
        instance.cli("down")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KOWALSKI_")}
