"""``lock``, ``audit`` and ``sbom``: the packages that Kowalski is made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from kowalski.cli.console import output
from kowalski.config import PROJECT


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (lock, audit, sbom):
        app.command()(command)


def lock(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions that fit together.")] = False,
) -> None:
    """Resolve requirements/*.in into the hashed lists that `up` and `test` install; versions stay where they can."""
    command = [sys.executable, str(PROJECT / "tools" / "lock.py"), *(["--upgrade"] if upgrade else [])]
    raise typer.Exit(subprocess.run(command, cwd=PROJECT, check=False).returncode)


def audit(
    osv_url: Annotated[
        str | None,
        typer.Option(help="Ask this OSV service, e.g. a copy in your network (…/v1/query), instead of PyPI's."),
    ] = None,
) -> None:
    """Look up known vulnerabilities of all locked packages; ends with 1 if there are any, or nothing was looked up."""
    from kowalski.runtime.dependencies import GROUPS
    from kowalski.runtime.dependencies import audit as look_up

    console = output()
    total = 0
    for group in GROUPS:
        found = look_up(PROJECT / "requirements" / f"{group}.txt", osv_url)
        for one in found.findings:
            fixed = f"fixed in {', '.join(one.fixed_in)}" if one.fixed_in else "not fixed yet"
            console.print(f"{group}: {one.package} {one.version}: {one.identifier}, {fixed}", markup=False)
        if found.unknown:
            console.print(f"{group}: nothing is known of {', '.join(found.unknown)}", markup=False)
        console.print(f"{group}: {found.audited} packages audited, {len(found.findings)} vulnerabilities")
        total += len(found.findings)
    if total:
        console.print("./kowalski.py lock --upgrade takes newer versions")
        raise typer.Exit(1)


def sbom(
    out: Annotated[Path | None, typer.Option(help="The file to write.  [default: standard output]")] = None,
) -> None:
    """Write a bill of materials (CycloneDX 1.6, JSON): all locked packages, and the jars of the embedded Kafka."""
    from kowalski import __version__
    from kowalski.runtime.dependencies import bill_of_materials

    text = json.dumps(bill_of_materials(__version__), indent=1)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n")
