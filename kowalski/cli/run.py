"""``run``: one part of the system in the foreground, as images and other supervisors do it."""

from __future__ import annotations

import os
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import settings, survey_name

if TYPE_CHECKING:
    from kowalski.runtime.programs import Program


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Run one part of the system in the foreground.", no_args_is_help=True)
    for command in (setup, api, scheduler, worker, cluster, broker, courier):
        group.command()(command)
    app.add_typer(group, name="run")


def setup() -> None:
    """Make accounts in MongoDB and models ready, then end: once before the rest starts."""
    from kowalski.cli.console import Progress
    from kowalski.cli.up import prepare_models
    from kowalski.config.secrets import Secrets
    from kowalski.runtime import lifecycle

    Secrets.ensure(settings().path.run)
    current = settings()
    with Progress() as progress:
        progress.begin("preparing MongoDB")
        lifecycle.prepare(current)
        progress.ready("MongoDB: accounts are there")
        prepare_models(current, progress)


def api() -> None:
    """The HTTP API."""
    from kowalski.runtime import lifecycle, programs

    current = settings()
    lifecycle.has_default_password(current)
    _become(programs.api(current))


def scheduler() -> None:
    """The Dask scheduler."""
    from kowalski.runtime import programs

    _become(programs.scheduler(settings()))


def worker() -> None:
    """One Dask worker; start as many as there are cores."""
    from kowalski.runtime import programs

    _become(programs.worker(settings()))


def cluster(
    show: Annotated[
        bool, typer.Option("--show", help="Print the job script or the manifest of the cluster, and submit nothing.")
    ] = False,
) -> None:
    """Workers on Slurm or Kubernetes (dask.cluster), as many as there is work for."""
    from kowalski.runtime import clusters, logs

    current = settings()
    if show:
        typer.echo(clusters.description(current))
        return
    logs.configure(current)
    clusters.run(current)


def broker(
    survey: Annotated[str, typer.Option(help="Whose alerts to take in, e.g. ZTF.")],
    obsdate: Annotated[
        list[str] | None,
        typer.Option(
            "--obsdate",
            "--obsdates",
            help="Only this night (YYYYMMDD), or several with commas in between; may be given several times.",
        ),
    ] = None,
) -> None:
    """The broker of one survey: reads its alerts and hands them to the workers."""
    from kowalski.broker import consumer
    from kowalski.runtime import logs

    current = settings()
    logs.configure(current)
    consumer.run(current, survey_name(survey), _nights(obsdate or []))


def courier() -> None:
    """The courier: brings what passes filters to SkyPortal and to Kafka topics."""
    from kowalski.courier import courier
    from kowalski.runtime import logs

    current = settings()
    logs.configure(current)
    courier.main(current)


def _become(program: Program) -> None:
    command = list(program.command)
    os.execvpe(command[0], command, {**os.environ, **program.environment})


def _nights(texts: list[str]) -> list[date]:
    return [_night(each.strip()) for text in texts for each in text.split(",")]


def _night(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no night; write it as YYYYMMDD, e.g. 20231012") from error
