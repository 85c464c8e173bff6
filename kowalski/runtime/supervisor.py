"""The supervisor of an instance: its configuration, its process, and what it is asked over its socket.

supervisord keeps every program running and writes its output to ``<run>/logs``. It starts nothing by itself: the order
is `kowalski.runtime.lifecycle`'s business.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from kowalski.config import PROJECT, Settings
from kowalski.runtime import launch
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.programs import Program
from kowalski.runtime.rendering import PROGRAMS, render

SOCKET_BYTES = 90
"""A Unix socket's path may have 107 bytes, and supervisord first makes it under a name some bytes longer."""

SERVER_GONE = (FileNotFoundError, ConnectionError, http.client.HTTPException)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """What supervisord says of one process.

    Attributes
    ----------
    program
        Name of the program it belongs to.
    name
        Its own name: the program's, or ``worker-0``, ``worker-1``, … where there are several copies.
    state
        ``RUNNING``, ``STARTING``, ``BACKOFF`` (it keeps ending), ``STOPPED``, ``EXITED``, ``FATAL`` …
    pid, started, log
        Process id (0: none), when it was started (seconds since 1970), its log file.
    """

    program: str
    name: str
    state: str
    pid: int
    started: float
    log: Path

    @property
    def full_name(self) -> str:
        """The name under which supervisord knows it."""
        return f"{self.program}:{self.name}"


class Supervisor:
    """The supervisord of the instance whose run folder ``settings.path.run`` is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.run = settings.path.run
        self.logs = self.run / "logs"
        self.configuration = self.run / "supervisord.conf"
        self.pid_file = self.run / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """Where supervisord listens: in the run folder, unless that name is too long for a socket."""
        usual = self.run / "supervisor.sock"
        if len(os.fsencode(usual)) <= SOCKET_BYTES:
            return usual
        digest = hashlib.sha256(os.fsencode(self.run)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"kowalski-{os.getuid()}" / f"{digest}.sock"

    # Running it

    def is_running(self) -> bool:
        """Whether supervisord answers and isn't about to end."""
        try:
            self._call("getPID")
        except SERVER_GONE:
            return False
        except Fault as fault:
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise
            return False
        return True

    def apply(self, programs: Iterable[Program]) -> list[str]:
        """Have supervisord know exactly these programs, starting it where it doesn't run yet.

        Programs whose declaration has changed are stopped; nothing is started.

        Returns
        -------
        list
            Names of programs that ran and were stopped because they have changed or are no longer wanted.
        """
        self._write(list(programs))
        if not self.is_running():
            self._spawn()
            return []
        added, changed, removed = self._call("reloadConfig")[0]
        for name in changed + removed:
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in added + changed:
            self._call("addProcessGroup", name)
        return [*changed, *removed]

    def shutdown(self) -> None:
        """Ask supervisord to stop all programs, in reverse order, and to end; return at once."""
        if self.is_running():
            self._call("shutdown")

    def process(self) -> psutil.Process | None:
        """Find supervisord's process, whether it answers or not."""
        try:
            process = psutil.Process(int(self.pid_file.read_text()))
            ours = process.environ().get(launch.INSTANCE) == str(self.run)
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    # Its processes

    def processes(self) -> list[Process]:
        """List the processes; empty when supervisord doesn't run, or is about to end."""
        if not self.is_running():
            return []
        found = self._call("getAllProcessInfo")
        return [
            Process(
                program=info["group"],
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                started=_started(info["pid"]) or float(info["start"]),
                log=Path(info["stdout_logfile"]),
            )
            for info in found
        ]

    def find(self, name: str) -> list[Process]:
        """Find the processes that ``name`` (of a program or of one of its copies) stands for.

        Raises
        ------
        ServiceError
            If there are none.
        """
        processes = self.processes()
        found = [process for process in processes if name in (process.program, process.name)]
        if not found:
            known = ", ".join(dict.fromkeys(process.program for process in processes))
            raise ServiceError(
                f"there is no service {name}; running here: {known}"
                if known
                else "nothing runs here; start it with ./kowalski.py up"
            )
        return found

    def start(self, program: str) -> None:
        """Start what of ``program`` doesn't run yet."""
        for process in self.find(program):
            self._start(process)

    def restart(self, name: str) -> None:
        """Stop and start a program or one of its copies; several copies one after the other."""
        for process in self.find(name):
            try:
                self._call("stopProcess", process.full_name)
            except Fault as fault:
                if fault.faultCode != Faults.NOT_RUNNING:
                    raise ServiceError(f"{process.name} can't be stopped: {fault.faultString}") from fault
            self._start(process)

    def _start(self, process: Process) -> None:
        try:
            self._call("startProcess", process.full_name, False)
        except Fault as fault:
            if fault.faultCode == Faults.ALREADY_STARTED:
                return
            raise ServiceError(f"{process.name} can't be started: {fault.faultString}") from fault

    # Inner workings

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with ServerProxy("http://localhost", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)

    def _write(self, programs: list[Program]) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self.run:
            _private_folder(self.socket.parent)
        launch.write(self.run / PROGRAMS, programs)
        partial = self.configuration.with_suffix(".partial")
        partial.write_text(render(self._settings, programs, self.socket))
        partial.replace(self.configuration)

    def _spawn(self) -> None:
        self.socket.unlink(missing_ok=True)  # left by one that was killed
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration)],
            cwd=PROJECT,
            env={**os.environ, launch.INSTANCE: str(self.run)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        end = time.monotonic() + 15.0
        while done.returncode == 0 and time.monotonic() < end:
            if self.is_running():
                return
            time.sleep(0.05)
        reason = " ".join((done.stderr or done.stdout).split()) or f"see {self.logs / 'supervisord.log'}"
        raise ServiceError(f"the supervisor does not start: {reason}")


def _started(pid: int) -> float | None:
    """When a process was started, by the clock as it is now; supervisord tells it by the clock as it was then."""
    try:
        return psutil.Process(pid).create_time() if pid else None
    except psutil.Error:
        return None


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ServiceError(f"{folder} belongs to someone else; set path.run to a folder with a shorter name")
    folder.chmod(0o700)
