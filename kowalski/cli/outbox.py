"""``outbox``: what has passed filters and is on its way to an outlet, what was refused, and another try for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kowalski.cli.console import output, settings, survey_name

if TYPE_CHECKING:
    from pymongo.collection import Collection

Entry = dict[str, Any]
STATES = "pending, failed, delivered, kept or dropped"
Survey = Annotated[str | None, typer.Option(help="Only those of this survey, e.g. ZTF.")]
Ids = Annotated[list[str] | None, typer.Argument(help="As `list` prints them: SURVEY:CANDID.")]
Where = Annotated[str, typer.Option("--outlet", help="Whose outbox: skyportal or kafka.")]
Everything = Annotated[bool, typer.Option("--all", help="All that failed (of the survey, if one is named).")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help="Passes on their way to SkyPortal or to Kafka topics: list, show, retry, drop.", no_args_is_help=True
    )
    group.command("list")(list_)
    for command in (show, retry, drop):
        group.command()(command)
    app.add_typer(group, name="outbox")


def list_(
    state: Annotated[str, typer.Option(help=f"Only those that are {STATES}; all: every one.")] = "failed",
    survey: Survey = None,
    outlet: Where = "skyportal",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
) -> None:
    """List alerts with passes, newest first: those that SkyPortal has refused, or others by --state."""
    from rich.table import Column, Table

    from kowalski.archive import outbox

    box = _box(outlet)
    wanted = _state(state)
    table = Table(
        Column("id", no_wrap=True), "object", "state", "passes", "tries", "passed (UTC)", "reason", box=None,
        pad_edge=False,
    )  # fmt: skip
    for entry in outbox.listing(box, wanted, survey, limit):
        passes = ", ".join(entry["passes"])
        when = f"{entry['created_at']:%Y-%m-%d %H:%M:%S}"
        row = (_text(entry["_id"]), entry["objectId"], entry["state"], passes, str(entry["attempts"]), when)
        table.add_row(*row, entry["error"] or "")
    match: Entry = {} if wanted is None else {"state": wanted.value}
    total = box.count_documents(match if survey is None else match | {"_id.survey": survey})
    console = output()
    if total:
        console.print(table)
    what = "alerts" if wanted is None else f"{wanted.value} alerts"
    console.print(f"{total} {what}" + (f", {limit} shown" if total > limit else ""))


def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it: SURVEY:CANDID.")],
    outlet: Where = "skyportal",
) -> None:
    """Show one alert's passes, the calls that are done, and those that were refused, as JSON."""
    entry = _box(outlet).find_one({"_id": _where(identifier)}, {"photometry": 0})
    if entry is None:
        raise typer.BadParameter(f"there is no alert {identifier} in the outbox")
    output().print(json.dumps(entry, default=str, indent=1), markup=False)


def retry(ids: Ids = None, everything: Everything = False, survey: Survey = None, outlet: Where = "skyportal") -> None:
    """Let the courier try again what was refused, for example after a filter or a group has been mended."""
    from kowalski.archive import outbox

    box = _box(outlet)
    done = outbox.retry(box, _chosen(box, ids, survey, everything=everything), datetime.now(UTC))
    _tell(done, ids, "will be tried again")


def drop(ids: Ids = None, everything: Everything = False, survey: Survey = None, outlet: Where = "skyportal") -> None:
    """Give alerts up: what the outlet does not have of them by now is never sent."""
    from kowalski.archive import outbox

    box, outlets = _box(outlet), settings().outlets
    keep = next(own.keep_days for name, own in outlets.items() if name == outlet)
    done = outbox.drop(box, _chosen(box, ids, survey, everything=everything), datetime.now(UTC), keep)
    _tell(done, ids, "dropped")


def _tell(done: int, ids: list[str] | None, what: str) -> None:
    typer.echo(f"{done} alerts {what}")
    if ids and done < len(set(ids)):
        typer.echo(f"{len(set(ids)) - done} are not in the outbox, or not in a state for it", err=True)
        raise typer.Exit(1)


def _chosen(box: Collection[Entry], ids: list[str] | None, survey: str | None, *, everything: bool) -> list[Entry]:
    from kowalski.archive import outbox

    if bool(ids) == everything:
        raise typer.BadParameter("name alerts by id, or take --all")
    if ids:
        return [_where(text) for text in ids]
    found = outbox.listing(box, outbox.State.FAILED, survey)
    return [entry["_id"] for entry in found]


def _state(text: str) -> Any:
    from kowalski.archive.outbox import State

    if text == "all":
        return None
    try:
        return State(text)
    except ValueError as error:
        raise typer.BadParameter(f"--state {text}: is {STATES}, or all") from error


def _box(outlet: str) -> Collection[Entry]:
    from kowalski.archive import client, names

    if outlet not in names.OUTBOXES:
        raise typer.BadParameter(f"--outlet {outlet}: is {' or '.join(names.OUTBOXES)}")
    return client.system_database(client.connect(settings()), settings())[names.OUTBOXES[outlet]]


def _text(where: Entry) -> str:
    return f"{where['survey']}:{where['candid']}"


def _where(text: str) -> Entry:
    from kowalski.archive.outbox import identity

    survey, _, candid = text.partition(":")
    if not survey or not candid.isdecimal():
        raise typer.BadParameter(f"{text} is no id of an alert in the outbox: SURVEY:CANDID is")
    return identity(survey_name(survey), int(candid))
