"""``reprocess``: stored alerts through chosen stages again, after a new model, catalog or filter."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import errors, output, settings, survey_name

if TYPE_CHECKING:
    from pymongo.database import Database
    from rich.console import Console

    from kowalski.archive.client import Document
    from kowalski.archive.reprocessing import Mark
    from kowalski.broker.reprocess import Hands, Plan, Reprocessing
    from kowalski.config import Settings

ALL = "score,crossmatch,filter"
LISTED = 10
"""Alerts that could not be processed and are named."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reprocess)


def reprocess(
    survey: Annotated[str, typer.Option(help="Whose alerts, e.g. ZTF.")],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First night (UTC), YYYYMMDD or YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", metavar="DATE", help="Last night, included.")],
    stages: Annotated[str, typer.Option(help="Which stages, with commas in between.")] = ALL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    post: Annotated[
        bool, typer.Option("--post", help="Deliver what passes filters, once more where it has been delivered.")
    ] = False,
) -> None:
    """Run stored alerts through stages again: new scores, new cross-matches, passes of new filters.

    Passes are put on record; nothing is delivered without --post. An interrupted run goes on when asked for again.
    """
    from kowalski import surveys
    from kowalski.archive import client, reprocessing
    from kowalski.broker.reprocess import Plan, Reprocessing, hands_of

    current = settings()
    plan = Plan(surveys.get(survey_name(survey)), _night(first), _night(last), _stages(stages), post)
    _check(plan, current)
    with client.connect(current) as connection:
        data, system = client.data_database(connection, current), client.system_database(connection, current)
        mark = reprocessing.find(system, plan.key)
        if dry_run:
            _tell(plan, data, system, mark, current)
            return
        console = errors()
        if mark is not None:
            console.print(f"going on with an interrupted run: {mark.done} alerts are done", markup=False)
        hands = hands_of(current, plan.survey)
        try:
            run = Reprocessing(current, plan, data, system, mark)
            _show(run, hands, console)
        finally:
            hands.close()
    _conclude(run)


def _check(plan: Plan, current: Settings) -> None:
    if plan.last < plan.first:
        raise typer.BadParameter("--to is before --from")
    if plan.post and "filter" not in plan.stages:
        raise typer.BadParameter("--post delivers what passes filters: it needs the stage filter")
    if plan.post and not current.delivers:
        raise typer.BadParameter("--post needs an outlet that is on: skyportal.enabled or distribution.enabled")
    if plan.stages == ("score",) and not current.ml.of(plan.survey.name).models:
        raise typer.BadParameter(f"no models are configured for {plan.survey.name}")


def _show(run: Reprocessing, hands: Hands, console: Console) -> None:
    """Work, with a bar on a terminal and a line per tenth elsewhere."""
    from rich import progress

    from kowalski.broker.dispatch import ClusterLost
    from kowalski.broker.reprocess import Here, ReprocessError

    if isinstance(hands, Here):
        console.print("no Dask workers are up: working in this process")
    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[rate]}"))
    total, started, began = run.progress.total, datetime.now(UTC), run.progress.done
    tenth = 10 * began // max(total, 1)
    try:
        with progress.Progress(*columns, progress.TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("alerts", total=total, completed=began, rate="")
            for state in run.run(hands):
                rate = (state.done - began) / max((datetime.now(UTC) - started).total_seconds(), 1e-3)
                bar.update(task, completed=state.done, rate=f"{rate:.0f} alerts/s")
                if not console.is_terminal and 10 * state.done // max(total, 1) > tenth:
                    tenth = 10 * state.done // max(total, 1)
                    left = (total - state.done) / max(rate, 1e-3)
                    console.print(f"  {state.done} of {total} alerts, {rate:.0f}/s, {left:.0f} s left", markup=False)
    except (ReprocessError, ClusterLost) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _conclude(run: Reprocessing) -> None:
    state, failures = run.progress, run.failures
    typer.echo(f"{state.done} alerts processed, {state.passes} passes, {len(failures)} alerts failed")
    for candid, reason in sorted(failures.items())[:LISTED]:
        typer.echo(f"{candid}: {reason}")
    if failures:
        raise typer.Exit(1)


def _tell(
    plan: Plan, data: Database[Document], system: Database[Document], mark: Mark | None, current: Settings
) -> None:
    """Tell what would be done, and write nothing."""
    from kowalski.archive import filters

    console = output()
    alerts = plan.count(data[plan.survey.alerts])
    console.print(f"{alerts} alerts of {plan.survey.name}, {plan.first} to {plan.last}", markup=False)
    if mark is not None:
        console.print(f"  an interrupted run goes on: {mark.done} alerts are done", markup=False)
    if "score" in plan.stages:
        models = current.ml.of(plan.survey.name).models
        told = ", ".join(f"{name} {model.version}" for name, model in models.items()) or "no models"
        console.print(f"  score: {told}", markup=False)
    if "crossmatch" in plan.stages:
        there = set(data.list_collection_names())
        catalogs = [name for name in current.database.xmatch.get(plan.survey.name, {}) if name in there]
        console.print(
            f"  crossmatch: {', '.join(catalogs) or 'none of the configured catalogs is there'}", markup=False
        )
    if "filter" in plan.stages:
        active = sorted(one.filter_id for one in filters.load_active(system, plan.survey.alerts))
        how = "delivered, once more where they have been" if plan.post else "put on record, not delivered"
        console.print(f"  filter: {len(active)} active filters {active}; passes are {how}", markup=False)


def _stages(text: str) -> tuple[str, ...]:
    from kowalski.broker.rerun import STAGES

    named = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(named - STAGES.keys())
    if unknown or not named:
        what = f"{', '.join(unknown)} can't be done again" if unknown else "no stage is named"
        raise typer.BadParameter(f"{what}; choose from {', '.join(STAGES)}")
    return tuple(name for name in STAGES if name in named)


def _night(text: str) -> date:
    for form in ("%Y%m%d", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise typer.BadParameter(f"{text} is no night; write it as YYYYMMDD or YYYY-MM-DD, e.g. 20231012")
