"""``logs``: what a service has written."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from kowalski.cli.console import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def logs(
    name: Annotated[str, typer.Argument(help="As in `status`: api, worker, worker-0, broker-ztf …; or supervisord.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the service writes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines to show.")] = 50,
) -> None:
    """Show the end of a service's log."""
    from kowalski.runtime.errors import ServiceError

    folder = settings().path.run / "logs"
    files = sorted(path for pattern in (f"{name}.log", f"{name}-[0-9]*.log") for path in folder.glob(pattern))
    if not files:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none"
        raise ServiceError(f"there is no log of {name} in {folder}; there are: {known}")
    # tail follows a file by its name, also when it is rotated
    follow_names = ["-F"] if follow else []
    os.execvp("tail", ["tail", "-n", str(lines), *follow_names, *map(str, files)])
