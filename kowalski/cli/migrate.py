"""``migrate``: what an older version has stored, as this one wants it."""

from __future__ import annotations

from typing import Annotated

import typer

from kowalski.cli.console import Progress, output, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be changed.")] = False,
) -> None:
    """Bring what is stored to the version of this Kowalski; make a backup first.

    It may be interrupted and repeated. MongoDB must be up; `up` leaves it up when it refuses an older version.
    """
    from kowalski.archive import client
    from kowalski.migrations import registry

    current = settings()
    console = output()
    with client.connect(current) as connection, Progress() as progress:
        data, system = client.data_database(connection, current), client.system_database(connection, current)
        steps = registry.due(system)
        found = registry.version(system)
        if dry_run:
            for step in steps:
                console.print(f"{step.number}: would {step.title}: {step.pending(data, system):,} documents")
        elif steps:
            progress.begin(f"{steps[0].number}: {steps[0].title}")
            for step, changed in registry.run(data, system):
                console.print(f"{step.number}: {step.title}: {changed:,} documents changed")
        else:
            registry.set_version(system, registry.CURRENT)
        if dry_run and steps:
            console.print(f"{system.name} is of version {found}; this Kowalski is of version {registry.CURRENT}")
        else:
            console.print(f"{system.name} is of version {registry.CURRENT}, as this Kowalski is")
