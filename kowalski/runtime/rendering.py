"""supervisord's configuration file: what it keeps running, and where it writes."""

from __future__ import annotations

import resource
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kowalski.config import PROJECT, Settings
from kowalski.runtime import launch
from kowalski.runtime.programs import Program

PROGRAMS = "programs.json"
"""File of the run folder with every program's command and environment."""

ENOUGH_FILES = 65536
NEVER_GIVE_UP = 1_000_000
SECONDS_TO_COUNT_AS_STARTED = 2


def render(settings: Settings, programs: Iterable[Program], socket: Path) -> str:
    """Write supervisord's configuration.

    Parameters
    ----------
    settings
        Of the instance: run folder, log sizes.
    programs
        What it keeps running; their commands and environment are in the file that `kowalski.runtime.launch` reads.
    socket
        Where it listens.
    """
    run = settings.path.run
    rotation = settings.logging
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = ENOUGH_FILES if most == resource.RLIM_INFINITY else min(ENOUGH_FILES, most)
    general: dict[str, dict[str, Any]] = {
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "supervisord": {
            "logfile": run / "logs" / "supervisord.log",
            "logfile_maxbytes": rotation.max_bytes,
            "logfile_backups": rotation.backups,
            "pidfile": run / "supervisord.pid",
            "childlogdir": run / "logs",
            "directory": PROJECT,
            "minfds": files,
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface",
        },
    }
    sections = [_section(name, options) for name, options in general.items()]
    return "\n".join(sections + [_program(program, settings) for program in programs])


def _program(program: Program, settings: Settings) -> str:
    run = settings.path.run
    name = f"{program.name}-%(process_num)d" if program.numbered else program.name
    command = [sys.executable, "-m", "kowalski.runtime.launch", str(run / PROGRAMS), program.name]
    options: dict[str, Any] = {
        "command": shlex.join(command),
        "directory": PROJECT,
        "priority": program.priority,
        "autostart": "false",
        "autorestart": "true" if program.restart_on_success else "unexpected",
        "startsecs": SECONDS_TO_COUNT_AS_STARTED,
        "startretries": NEVER_GIVE_UP,
        "stopwaitsecs": program.stop_seconds,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile_maxbytes": settings.logging.max_bytes,
        "stdout_logfile_backups": settings.logging.backups,
        # A program that has changed must look changed to supervisord, which sees neither command nor environment.
        "environment": f'KOWALSKI_FINGERPRINT="{launch.fingerprint(program)}"',
    }
    # These hold supervisord's own placeholders, so they must not be escaped.
    raw = {
        "process_name": name,
        "numprocs": str(program.copies),
        "stdout_logfile": f"{_escape(run / 'logs')}/{name}.log",
    }
    return _section(f"program:{program.name}", options, raw)


def _section(name: str, options: dict[str, Any], raw: dict[str, str] | None = None) -> str:
    lines = [f"{key} = {_escape(value)}" for key, value in options.items()]
    lines += [f"{key} = {value}" for key, value in (raw or {}).items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _escape(value: Any) -> str:
    return str(value).replace("%", "%%")
