"""``seed``: collections from dumps, into this instance."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import DocumentsBar, errors, output, settings

if TYPE_CHECKING:
    from pymongo.database import Database

    from kowalski.archive.client import Document
    from kowalski.dumps.manifest import Kept
    from kowalski.dumps.restore import Found, Source


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(seed)


def seed(
    source: Annotated[
        str, typer.Option(metavar="DIR|URL", help="Folder, gs://… or s3://…: where the dumps are.")
    ] = ".",
    drop: Annotated[bool, typer.Option("--drop", help="Remove each collection before it is restored.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take everything without asking.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Users, filters, outboxes and dead letters, too.")] = False,
    backup: Annotated[
        str | None, typer.Option(metavar="NAME", help="A backup of ours that is not the newest (backup-….json).")
    ] = None,
) -> None:
    """Restore collections and their indexes from our own backups and from archives of mongodump.

    Archives (`mongodump --archive`) may be plain or compressed by gzip, bzip2 or Zstandard. A document that is there
    already (by its _id) is left as it is.
    """
    from kowalski.archive import client
    from kowalski.dumps.places import Place
    from kowalski.dumps.restore import look, restore
    from kowalski.migrations import registry

    current = settings()
    place = Place.of(source)
    found = look(place, backup)
    for name, reason in found.ignored.items():
        errors().print(f"left out: {name} ({reason})", markup=False)
    offered = [each for each in found.sources if system or each.kept == "data"]
    hidden = len(found.sources) - len(offered)
    if hidden:
        errors().print(f"{hidden} collections of users, filters and the like are taken with --system only")
    if not offered:
        raise typer.BadParameter(f"nothing to restore in {source}", param_hint="--source")
    chosen = offered if yes else _ask(offered)
    console = output()
    with client.connect(current) as connection:

        def database(kept: Kept) -> Database[Document]:
            choose = client.data_database if kept == "data" else client.system_database
            return choose(connection, current)

        with DocumentsBar() as bar:
            for done in restore(place, chosen, database, bar, drop=drop):
                there = f", {done.present:,} were there already" if done.present else ""
                console.print(f"{done.source.label}: {done.new.rows:,} documents restored{there}", markup=False)
        if _is_older(found, chosen) and registry.lower(database("system"), _version(found, chosen)):
            console.print("what was restored is of an older version: run ./kowalski.py migrate before up")


def _is_older(found: Found, chosen: Sequence[Source]) -> bool:
    """Whether something of a survey or of the system database is among what was restored: catalogs have no version."""
    from kowalski.surveys import SURVEYS

    versioned = {name for survey in SURVEYS.values() for name in (survey.alerts, survey.objects)}
    return any(each.kept == "system" or each.name in versioned for each in chosen)


def _version(found: Found, chosen: Sequence[Source]) -> int:
    """Give the oldest version among what was restored; archives of mongodump don't tell, so they count as 0."""
    versions = [found.manifests[each.file].schema_version if each.file in found.manifests else 0 for each in chosen]
    return min(versions)


def _ask(offered: Sequence[Source]) -> list[Source]:
    """Let the operator choose by number."""
    from rich.prompt import Prompt
    from rich.table import Table

    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to choose what to restore; --yes takes everything")
    table = Table("", "collection", "documents", "from", box=None, header_style="bold")
    for number, each in enumerate(offered, start=1):
        table.add_row(f"[ ] {number}", each.label, "" if each.rows is None else f"{each.rows:,}", each.file)
    console = errors()
    console.print(table)
    while True:
        text = Prompt.ask("Which ones? Numbers and ranges (1,3-5), or all", console=console, default="all")
        chosen = picked(text, len(offered))
        if chosen:
            return [offered[number - 1] for number in chosen]
        console.print(f"that names none of 1 to {len(offered)}")


def picked(text: str, count: int) -> list[int]:
    """Read numbers and ranges up to ``count``; none if the text is no such thing."""
    if text.strip().lower() == "all":
        return list(range(1, count + 1))
    numbers: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            return []
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(numbers) if numbers <= set(range(1, count + 1)) else []
