"""``secrets``: passwords and keys of the instance."""

from __future__ import annotations

from typing import Annotated

import typer

from kowalski.cli.console import Progress, output, settings


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Passwords and keys of the instance: make, rotate, check.", no_args_is_help=True)
    for command in (make, rotate, check):
        group.command()(command)
    app.add_typer(group, name="secrets")


def make() -> None:
    """Make random secrets where there are none yet; `up` does so, too."""
    from kowalski.config.secrets import FILE, Secrets

    run = settings().path.run
    there = (run / FILE).is_file()
    Secrets.ensure(run)
    output().print(f"{run / FILE} {'was there already; secrets rotate changes them' if there else 'is written'}")


def rotate(
    passwords: Annotated[bool, typer.Option("--passwords", help="Only MongoDB's passwords.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Only the key of tokens: everybody logs in again.")] = False,
) -> None:
    """Put new secrets into force and restart the services that use them; nothing is lost meanwhile.

    What you have set in the configuration yourself stays. With a new key of tokens all tokens end.
    """
    from kowalski.runtime import lifecycle, rotation
    from kowalski.runtime.supervisor import Supervisor

    both = passwords == tokens
    changed = rotation.rotate(settings(), passwords=passwords or both, tokens=tokens or both)
    console = output()
    console.print(f"new: {', '.join(changed)}" if changed else "nothing to change: you have set all of them yourself")
    current = settings()  # with the secrets just made
    if changed and Supervisor(current).is_running():
        with Progress() as progress:
            lifecycle.start(current, progress)


def check() -> None:
    """Look whether secrets are kept well and MongoDB's accounts may do no more than they should."""
    from kowalski.config import operators_file
    from kowalski.runtime.hygiene import problems

    found = list(problems(settings(), operators_file()))
    console = output()
    for sentence in found:
        console.print(sentence, markup=False)
    if found:
        raise typer.Exit(1)
    console.print("secrets are in order")
