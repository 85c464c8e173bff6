"""A real supervisord that looks after small programs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kowalski.config import Settings
from kowalski.runtime import leftovers
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.programs import Program
from kowalski.runtime.supervisor import SOCKET_BYTES, Process, Supervisor


def sleeper(name: str, seconds: int = 600, **options: object) -> Program:
    code = f"import sys, time; print('here is', {name!r}, flush=True); time.sleep({seconds})"
    return Program(name, (sys.executable, "-c", code), 10, stop_seconds=5, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["run", 'a run, "odd" ünïcode', "deep/" * 20 + "run"], ids=["plain", "odd", "deep"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisor]:
    yield from running(tmp_path / request.param)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Supervisor]:
    yield from running(tmp_path / "run")


def running(run: Path) -> Iterator[Supervisor]:
    settings = Settings()
    settings.path.run = run
    supervisor = Supervisor(settings)
    yield supervisor
    process = supervisor.process()
    supervisor.shutdown()
    if process is not None:
        process.wait(30)
    assert leftovers.find(run) == []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def said(supervisor: Supervisor, name: str) -> int:
    """How often the program has come so far as to write its line; a signal before that may miss it."""
    log = supervisor.logs / f"{name}.log"
    return log.read_text().count("here is") if log.exists() else 0


def running_ones(supervisor: Supervisor) -> dict[str, Process]:
    alive = ("STARTING", "RUNNING")
    return {process.name: process for process in supervisor.processes() if process.state in alive and process.pid}


def test_in_any_folder(supervisor: Supervisor) -> None:
    assert supervisor.apply([sleeper("one"), sleeper("worker", copies=2)]) == []
    assert not running_ones(supervisor)  # it starts nothing by itself
    supervisor.start("one")
    supervisor.start("worker")
    wait_for(lambda: len(running_ones(supervisor)) == 3)
    found = running_ones(supervisor)
    assert set(found) == {"one", "worker-0", "worker-1"}
    assert found["worker-1"].program == "worker"
    wait_for(lambda: all(said(supervisor, name) for name in found))
    assert found["one"].log.read_text() == "here is one\n"
    assert found["one"].log.parent == supervisor.logs
    assert time.time() - found["one"].started < 60
    assert len(os.fsencode(supervisor.socket)) <= SOCKET_BYTES
    assert supervisor.socket.parent.stat().st_uid == os.getuid()


def test_what_dies_is_brought_back(plain: Supervisor) -> None:
    plain.apply([sleeper("one")])
    plain.start("one")
    wait_for(lambda: said(plain, "one") == 1)
    before = running_ones(plain)["one"].pid
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: any(process.pid != before for process in running_ones(plain).values()))
    wait_for(lambda: said(plain, "one") == 2)


def test_only_what_has_changed_is_stopped(plain: Supervisor) -> None:
    plain.apply([sleeper("same"), sleeper("changes"), sleeper("goes")])
    for name in ("same", "changes", "goes"):
        plain.start(name)
    wait_for(lambda: all(said(plain, name) for name in ("same", "changes", "goes")))
    before = running_ones(plain)
    assert set(plain.apply([sleeper("same"), sleeper("changes", 601), sleeper("comes")])) == {"changes", "goes"}
    assert {name: process.pid for name, process in running_ones(plain).items()} == {"same": before["same"].pid}
    assert {process.name for process in plain.processes()} == {"same", "changes", "comes"}
    assert not psutil.pid_exists(before["changes"].pid)


def test_starting_twice_and_restarting(plain: Supervisor) -> None:
    plain.apply([sleeper("worker", copies=2)])
    plain.start("worker")
    plain.start("worker")
    wait_for(lambda: said(plain, "worker-0") == said(plain, "worker-1") == 1)
    before = running_ones(plain)
    plain.restart("worker-1")
    wait_for(lambda: said(plain, "worker-1") == 2)
    after = running_ones(plain)
    assert after["worker-0"].pid == before["worker-0"].pid
    assert after["worker-1"].pid != before["worker-1"].pid


def test_a_name_that_is_none(plain: Supervisor) -> None:
    with pytest.raises(ServiceError, match="nothing runs here"):
        plain.restart("api")
    plain.apply([sleeper("one"), sleeper("two")])
    with pytest.raises(ServiceError, match="there is no service api; running here: one, two"):
        plain.restart("api")


def test_a_supervisor_that_was_killed_is_followed_by_another(plain: Supervisor) -> None:
    plain.apply([sleeper("one")])
    plain.start("one")
    wait_for(lambda: said(plain, "one") == 1)
    process = plain.process()
    assert process is not None
    process.kill()
    process.wait(10)
    assert plain.processes() == []
    assert not plain.is_running()
    assert plain.process() is None
    leftovers.end(plain.run)
    plain.apply([sleeper("one")])
    assert plain.is_running()


def test_a_program_that_keeps_ending_is_tried_again(plain: Supervisor) -> None:
    plain.apply([Program("brief", (sys.executable, "-c", "print('no')"), 10)])
    plain.start("brief")
    wait_for(lambda: plain.find("brief")[0].log.read_text().count("no") >= 2)
    assert plain.find("brief")[0].state in ("BACKOFF", "STARTING")
