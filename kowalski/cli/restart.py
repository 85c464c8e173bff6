"""``restart``: stop and start one service."""

from __future__ import annotations

from typing import Annotated

import typer

from kowalski.cli.console import Progress, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restart)


def restart(name: Annotated[str, typer.Argument(help="As in `status`: api, worker, worker-0, broker-ztf …")]) -> None:
    """Stop and start one service, and wait until it does its work again."""
    from kowalski.runtime.lifecycle import await_health
    from kowalski.runtime.services import services
    from kowalski.runtime.supervisor import Supervisor

    current = settings()
    supervisor = Supervisor(current)
    program = supervisor.find(name)[0].program
    with Progress() as progress:
        progress.begin(f"{name}: stopping and starting")
        supervisor.restart(name)
        for service in services(current):
            if service.name == program:
                await_health(service, current, supervisor, progress)
