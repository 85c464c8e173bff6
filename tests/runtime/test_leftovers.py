from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kowalski.config import PROJECT
from kowalski.runtime import leftovers
from kowalski.runtime.launch import INSTANCE

QUIET = "print(1, flush=True); import time; time.sleep(300)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + QUIET
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {QUIET!r}]).wait()"
LISTENING = (
    "import socket; server = socket.create_server(('127.0.0.1', 0)); "
    "print(server.getsockname()[1], flush=True); import time; time.sleep(300)"
)

Spawn = Callable[[str, Path], subprocess.Popen[str]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[str]] = []

    def spawn(code: str, run: Path) -> subprocess.Popen[str]:
        environment = {**os.environ, INSTANCE: str(run)}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_only_processes_of_the_instance_are_found(spawn: Spawn, tmp_path: Path) -> None:
    ours, other = spawn(QUIET, tmp_path / "run"), spawn(QUIET, tmp_path / "run2")
    assert first_line(ours) == first_line(other) == "1"
    assert [process.pid for process in leftovers.find(tmp_path / "run")] == [ours.pid]


def test_children_belong_to_it(spawn: Spawn, tmp_path: Path) -> None:
    parent = spawn(PARENT, tmp_path)
    assert first_line(parent) == "1"  # said by the child
    ended = leftovers.end(tmp_path)
    assert len(ended) >= 2
    assert leftovers.find(tmp_path) == []


def test_the_caller_is_spared(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from kowalski.runtime.leftovers import find; print(find(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, INSTANCE: str(tmp_path)}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, env=environment, text=True)
    assert said.strip() == "[]"


def test_who_does_not_listen_is_ended_by_force(spawn: Spawn, tmp_path: Path) -> None:
    stubborn = spawn(STUBBORN, tmp_path)
    assert first_line(stubborn) == "1"
    assert [process.pid for process in leftovers.end(tmp_path, patience=0.3)] == [stubborn.pid]
    assert not psutil.pid_exists(stubborn.pid)


def test_nothing_to_end(tmp_path: Path) -> None:
    assert leftovers.end(tmp_path) == []


def test_ports_of_the_instance(spawn: Spawn, tmp_path: Path) -> None:
    port = int(first_line(spawn(LISTENING, tmp_path)))
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        found = leftovers.listening_ports(tmp_path)
        assert foreign.getsockname()[1] not in found
    assert found == {port}
