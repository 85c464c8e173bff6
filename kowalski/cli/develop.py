"""``develop`` and ``lint``: what a change to the project has to pass."""

from __future__ import annotations

import subprocess
import sys

import typer

from kowalski.cli.console import output
from kowalski.config import PROJECT

CHECKS = {
    "style": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy",),
    "types of the command": ("mypy", "kowalski.py"),  # by itself: its name is that of the package
    "types of the tools": ("mypy", "--explicit-package-bases", "tools", "benchmarks"),
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(lint)
    app.command()(develop)


def lint() -> None:
    """Check style, format and types of the whole project."""
    failed = [name for name, command in CHECKS.items() if _run(*command) != 0]
    output().print(f"Not in order: {', '.join(failed)}." if failed else "Style, format and types are in order.")
    raise typer.Exit(1 if failed else 0)


def develop() -> None:
    """Prepare this folder for development: install the test tools, and check each commit before it is made."""
    status = _run("pre_commit", "install")
    if status == 0:
        output().print("Each commit is checked from now on; ./kowalski.py lint does it at any time.")
    raise typer.Exit(status)


def _run(module: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=PROJECT, check=False).returncode
