"""``down``: stop everything."""

from __future__ import annotations

from typing import Annotated

import typer

from kowalski.cli.console import Progress, output, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(down)


def down(
    docker: Annotated[bool, typer.Option("--docker", help="The containers that `up --docker` has started.")] = False,
) -> None:
    """Stop every service of this instance; what it has stored stays."""
    from kowalski.runtime import compose, lifecycle

    current = settings()
    if docker:
        compose.check()
        compose.down(current)
        output().print("Everything is stopped; what is stored stays in volumes.")
        return
    with Progress() as progress:
        lifecycle.stop(current, progress)
    output().print("Everything is stopped.")
