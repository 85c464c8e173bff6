"""``deadletters``: packets that could not be processed, why, and another try for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kowalski.cli.console import output, settings

if TYPE_CHECKING:
    from pymongo.database import Database

Letter = dict[str, Any]
Survey = Annotated[str | None, typer.Option(help="Only those of this survey, e.g. ZTF.")]
Ids = Annotated[list[str] | None, typer.Argument(help="As `list` prints them: TOPIC:PARTITION:OFFSET[:RECORD].")]
Everything = Annotated[bool, typer.Option("--all", help="All of them (of the survey, if one is named).")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Packets that could not be processed: list, show, replay, drop.", no_args_is_help=True)
    group.command("list")(list_)
    for command in (show, replay, drop):
        group.command()(command)
    app.add_typer(group, name="deadletters")


def list_(survey: Survey = None, limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20) -> None:
    """List dead letters, newest first, with the stage that refused them and the reason."""
    from rich.table import Column, Table

    from kowalski.archive import dead_letters, names

    letters = _system()[names.DEAD_LETTERS]
    table = Table(
        Column("id", no_wrap=True), "survey", "stage", "reason", "bytes", "at (UTC)", box=None, pad_edge=False
    )
    for letter in dead_letters.listing(letters, survey, limit):
        row = (_text(letter["_id"]), letter["survey"], letter["stage"], letter["reason"])
        table.add_row(*row, f"{letter['size']:,}", f"{letter['at']:%Y-%m-%d %H:%M:%S}")
    total = letters.count_documents({} if survey is None else {"survey": survey})
    console = output()
    if total:
        console.print(table)
    console.print(f"{total} dead letters" + (f", {limit} shown" if total > limit else ""))


def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.")],
    save: Annotated[Path | None, typer.Option(help="Write the packet's bytes to this file.")] = None,
) -> None:
    """Show one dead letter; with --save, get its bytes."""
    from kowalski.archive import names

    letter = _system()[names.DEAD_LETTERS].find_one({"_id": _where(identifier)})
    if letter is None:
        raise typer.BadParameter(f"there is no dead letter {identifier}")
    for key in ("survey", "stage", "reason", "size", "at", "kafka_timestamp"):
        typer.echo(f"{key:<16} {letter[key]}")
    typer.echo(f"{'first bytes':<16} {bytes(letter['value'][:32])!r}")
    if save is not None:
        save.write_bytes(letter["value"])
        typer.echo(f"{len(letter['value']):,} bytes written to {save}")


def replay(ids: Ids = None, everything: Everything = False, survey: Survey = None) -> None:
    """Process dead letters again, for example after a repair; those that fail again stay."""
    from rich.progress import track

    from kowalski.broker.dispatch import ClusterLost
    from kowalski.broker.replay import replay as run

    system = _system()
    chosen = _chosen(system, ids, survey, everything=everything)
    failed = 0
    try:
        for one in track(run(settings(), system, chosen), "replaying", total=len(chosen)):
            if one.trouble is not None:
                failed += 1
                typer.echo(f"{_text(one.where)}: {one.trouble}")
    except ClusterLost as error:
        typer.echo(f"{error}; is Kowalski up?", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{len(chosen) - failed} processed, {failed} still dead letters")
    if failed:
        raise typer.Exit(1)


def drop(ids: Ids = None, everything: Everything = False, survey: Survey = None) -> None:
    """Remove dead letters for good."""
    from kowalski.archive import dead_letters, names

    system = _system()
    removed = dead_letters.remove(system[names.DEAD_LETTERS], _chosen(system, ids, survey, everything=everything))
    typer.echo(f"{removed} dead letters removed")


def _chosen(
    system: Database[Letter], ids: list[str] | None, survey: str | None, *, everything: bool
) -> list[dict[str, Any]]:
    from kowalski.archive import dead_letters, names

    if bool(ids) == everything:
        raise typer.BadParameter("name dead letters by id, or take --all")
    if ids:
        return [_where(text) for text in ids]
    return [letter["_id"] for letter in dead_letters.listing(system[names.DEAD_LETTERS], survey)]


def _system() -> Database[Letter]:
    from kowalski.archive import client

    return client.system_database(client.connect(settings()), settings())


def _text(where: dict[str, Any]) -> str:
    return ":".join(str(where[name]) for name in ("topic", "partition", "offset", "record") if name in where)


def _where(text: str) -> dict[str, Any]:
    from kowalski.archive.dead_letters import letter_id

    try:
        topic, *numbers = text.split(":")  # which no topic's name holds
        partition, offset, *record = map(int, numbers)
        return letter_id(topic, partition, offset, *record)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{text} is no id of a dead letter: TOPIC:PARTITION:OFFSET[:RECORD] is") from error
