"""``filters``: users' filters on alerts, how they do, and what they would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kowalski.cli.console import output, settings

if TYPE_CHECKING:
    from pymongo.database import Database

    from kowalski.archive.filters import ActiveFilter
    from kowalski.broker.dryrun import Report
    from kowalski.broker.night import Span
    from kowalski.surveys import Survey

Document = dict[str, Any]
Number = Annotated[int, typer.Argument(metavar="ID", help="Number of the filter.")]
Version = Annotated[str | None, typer.Option("--version", help="A version's fid; the last one if none is named.")]
Night = Annotated[str | None, typer.Option(help="A date (UTC), YYYYMMDD; the last that has alerts if none is named.")]
Milliseconds = Annotated[int, typer.Option("--max-time-ms", min=1, help="Time that it may take.")]
Objects = Annotated[list[str] | None, typer.Option("--object", help="Only alerts of this object; may be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Users' filters: list, show, test, dryrun.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("test")(run)
    for command in (show, dryrun):
        group.command()(command)
    app.add_typer(group, name="filters")


def list_() -> None:
    """List filters with what the broker has counted of their active versions."""
    from rich.table import Table

    from kowalski.archive import filter_statistics, names
    from kowalski.archive.filters import state_of

    system = _databases()[1]
    numbers = filter_statistics.of_all(system)
    table = Table(box=None, pad_edge=False)
    for column in ("id", "group", "catalog", "version", "of", "alerts", "passes", "errors", "ms/alert", "state"):
        table.add_column(column, justify="left" if column in ("catalog", "version", "state") else "right")
    found = list(system[names.FILTERS].find().sort("filter_id", 1))
    for document in found:
        fid = document.get("active_fid") or "-"
        known = numbers.get((document["filter_id"], fid), {})
        ms = known.get("ms_per_alert")
        counted = [f"{known.get(name, 0):,}" for name in ("alerts", "passes", "errors")]
        facts = [document["filter_id"], document["group_id"], document["catalog"], fid, len(document["fv"])]
        table.add_row(*map(str, facts), *counted, "-" if ms is None else f"{ms:.2f}", state_of(document))
    console = output()
    if found:
        console.print(table)
    console.print(f"{len(found)} filters")


def show(number: Number) -> None:
    """Show a filter with all its versions."""
    from bson.json_util import dumps

    typer.echo(dumps(_stored(_databases()[1], number), indent=2))


def run(
    number: Number,
    version: Version = None,
    objects: Objects = None,
    night: Night = None,
    max_time_ms: Milliseconds = 30_000,
) -> None:
    """Run a filter on the archive and print what passes, one JSON document per line."""
    from bson.json_util import dumps

    from kowalski.broker.evaluation import stages_on_archive
    from kowalski.broker.night import last_night

    data, system = _databases()
    survey, one = _version(system, number, version)
    span = _span(night) if night or objects else last_night(data[survey.alerts], max_time_ms)
    stages = stages_on_archive(survey, one, objects, None if span is None else (span.start, span.end))
    for document in data[survey.alerts].aggregate(stages, allowDiskUse=False, maxTimeMS=max_time_ms):
        typer.echo(dumps(document))


def dryrun(number: Number, version: Version = None, night: Night = None, max_time_ms: Milliseconds = 30_000) -> None:
    """Count what a filter would have passed on a night, hour by hour, and what that costs."""
    from kowalski.broker.dryrun import DryRun, Limits
    from kowalski.broker.night import last_night

    data, system = _databases()
    survey, one = _version(system, number, version)
    span = _span(night) or last_night(data[survey.alerts], max_time_ms)
    if span is None:
        raise typer.BadParameter(f"there are no alerts in {survey.alerts}")
    filters = settings().filters
    limits = Limits(max_time_ms, filters.dry_run_max_alerts)
    _print(DryRun(data, survey, one, filters).run(span, limits))


def _print(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("hour (UTC)", "alerts", "examined", "passed"):
        table.add_column(column, justify="right")
    for hour in report.hours:
        table.add_row(f"{hour.start:%Y-%m-%d %H:%M}", f"{hour.alerts:,}", f"{hour.examined:,}", f"{hour.passed:,}")
    console = output()
    if report.hours:
        console.print(table)
    console.print(f"{report.passed:,} passed of {report.examined:,} examined of {report.alerts:,}")
    if report.pass_rate is not None and report.ms_per_alert is not None:
        console.print(f"pass rate {report.pass_rate:.2%}; {report.expected:,} of the whole night")
        console.print(f"{report.ms_per_alert:.2f} ms per alert")
    if report.trouble is not None:
        console.print(f"{report.errors} errors; {report.trouble}", markup=False)


def _span(night: str | None) -> Span | None:
    from datetime import date

    from kowalski.broker.night import Span

    if night is None:
        return None
    try:
        return Span.of_date(date.fromisoformat(night))
    except ValueError as error:
        raise typer.BadParameter(f"{night} is no date: YYYYMMDD is") from error


def _version(system: Database[Document], number: int, fid: str | None) -> tuple[Survey, ActiveFilter]:
    from kowalski.archive.filters import PipelineTextError, version_of
    from kowalski.surveys import SURVEYS

    document = _stored(system, number)
    try:
        one = version_of(document, fid or document["fv"][-1]["fid"])
    except PipelineTextError as error:
        raise typer.BadParameter(f"filter {number}: {error}") from error
    return next(survey for survey in SURVEYS.values() if survey.alerts == document["catalog"]), one


def _stored(system: Database[Document], number: int) -> Document:
    from kowalski.archive import names

    document = system[names.FILTERS].find_one({"filter_id": number})
    if document is None:
        raise typer.BadParameter(f"there is no filter {number}")
    return document


def _databases() -> tuple[Database[Document], Database[Document]]:
    from kowalski.archive import client

    connection = client.connect(settings())
    return client.data_database(connection, settings()), client.system_database(connection, settings())
