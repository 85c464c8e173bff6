"""``schemas``: of packets that name their schema by a number instead of carrying it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import output, settings, survey_name

if TYPE_CHECKING:
    from kowalski.broker.schemas import SchemaStore

Survey = Annotated[
    str | None, typer.Option(help="Whose schemas.  [default: the first survey whose packets name theirs by a number]")
]
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Numbers of schemas.  [default: all]")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Schemas of packets that don't carry their own: list, fetch, add.", no_args_is_help=True)
    group.command("list")(list_)
    for command in (fetch, add):
        group.command()(command)
    app.add_typer(group, name="schemas")


def list_(survey: Survey = None) -> None:
    """List the schemas that are at hand."""
    from rich.table import Table

    store = _store(survey)
    table = Table("id", "name", "fields", box=None, header_style="bold")
    found = list(store.kept())
    for each in found:
        table.add_row(str(each.number), each.name, str(each.fields))
    console = output()
    if found:
        console.print(table)
    console.print(f"{len(found)} schemas in {store.folder}; registry: {store.registry or 'none'}", markup=False)


def fetch(ids: Ids = None, survey: Survey = None) -> None:
    """Get schemas from the survey's registry, also those that are at hand already."""
    from kowalski.surveys.base import PacketError

    store = _store(survey)
    failed = 0
    for number in ids or store.offered():
        try:
            store.fetch(number)
        except PacketError as error:
            failed += 1
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"schema {number} is in {store.folder}")
    if failed:
        raise typer.Exit(1)


def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Schemas (*.avsc); what they refer to lies beside them.")
    ],
    number: Annotated[int | None, typer.Option("--id", min=0, help="The number, if the name does not tell it.")] = None,
    survey: Survey = None,
) -> None:
    """Add schemas from files, such as a survey publishes."""
    if number is not None and len(files) > 1:
        raise typer.BadParameter("one number is for one file", param_hint="--id")
    store = _store(survey)
    for file in files:
        added = store.add(file, number)
        typer.echo(f"schema {added.number} ({added.name}) is in {store.folder}")


def _store(survey: str | None) -> SchemaStore:
    from kowalski import surveys
    from kowalski.broker.schemas import SchemaStore

    current = settings()
    numbered = (name for name, one in surveys.SURVEYS.items() if one.numbers_schemas)
    return SchemaStore.of(current, surveys.get(survey_name(survey or next(numbered))))
