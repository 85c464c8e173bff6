"""What supervisord runs for each program: reads its command and environment from a file and becomes it.

supervisord's own configuration can't hold every value: quotes in its ``environment`` can't be escaped, and ``;`` starts
a comment. It would also pass on the variables of the shell that happened to start it first.

Called as ``python -m kowalski.runtime.launch FILE PROGRAM``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # this runs before every program: it must not import what is only a hint
    from kowalski.runtime.programs import Program

INSTANCE = "KOWALSKI_INSTANCE"
"""Variable that every process of an instance inherits; its value is the run folder."""


def is_setting(name: str) -> bool:
    """Whether settings are read from the variable ``name``."""
    return (name.startswith("KOWALSKI_") and name != INSTANCE) or name == "USE_TENSORFLOW"


def entry(program: Program, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What is written of ``program``: its command, and its variables on top of those that settings are read from."""
    wanted = program.reads_settings
    settings = {name: value for name, value in sorted(environ.items()) if wanted and is_setting(name)}
    return {"command": list(program.command), "environment": settings | dict(program.environment)}


def fingerprint(program: Program) -> str:
    """Something that changes whenever what would be run as ``program`` changes."""
    return hashlib.sha256(json.dumps(entry(program), sort_keys=True).encode()).hexdigest()[:16]


def write(path: Path, programs: Iterable[Program]) -> None:
    """Write the file that `main` reads, for its owner only: the environment may hold passwords."""
    entries = {program.name: entry(program) for program in programs}
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(entries, file, indent=1)
    partial.replace(path)


def main(path: str, name: str) -> None:
    """Become the program ``name`` of the file at ``path``."""
    wanted = json.loads(Path(path).read_text())[name]
    command = wanted["command"]
    environment = {key: value for key, value in os.environ.items() if not is_setting(key)} | wanted["environment"]
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
