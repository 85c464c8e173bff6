"""``down``: stop everything."""

from __future__ import annotations

import typer

from kowalski.cli.console import Progress, output, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(down)


def down() -> None:
    """Stop every service of this instance; what it has stored stays."""
    from kowalski.runtime import lifecycle

    current = settings()
    with Progress() as progress:
        lifecycle.stop(current, progress)
    output().print("Everything is stopped.")
