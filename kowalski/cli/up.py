"""``up`` and ``build``: start everything, and say where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import Progress, output, settings

if TYPE_CHECKING:
    from kowalski.config import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(build)


def up(
    build: Annotated[bool, typer.Option("--build", help="Install the locked packages anew, and restart all.")] = False,
    docker: Annotated[
        bool, typer.Option("--docker", help="In containers; with --build their images are made anew.")
    ] = False,
) -> None:
    """Install what is missing, start every service, and wait until each does its work."""
    from kowalski.config.secrets import Secrets
    from kowalski.runtime import compose, lifecycle

    if docker:
        compose.check()
        compose.up(settings(warn=True), build=build)
        output().print("Everything runs; ./kowalski.py status --docker shows it.")
        return

    Secrets.ensure(settings(warn=True).path.run)
    current = settings()  # now with the secrets just made
    with Progress() as progress:
        prepare_models(current, progress)
        lifecycle.start(current, progress, afresh=build)
    _show(current)


def build() -> None:
    """Install the locked packages anew; `up --build` also restarts the services."""
    output().print("The locked packages are installed.")


def prepare_models(current: Settings, progress: Progress) -> None:
    """Fetch and convert models; one that can't be had is no reason not to start."""
    from kowalski.ml.ready import ensure_ready

    def report(name: str, done: int, total: int | None) -> None:
        if name.startswith("convert"):  # models that are turned into ONNX, not bytes that come in
            progress.begin(f"{name} ({done} of {total})")
        else:
            progress.progress(name, done, total)

    progress.begin("looking after the machine-learning models")
    states = ensure_ready(current, report)
    usable = [f"{state.name} {state.version}" for state in states if state.is_ready]
    if usable:
        progress.ready(f"models: {', '.join(usable)}")
    for state in states:
        if not state.is_ready:
            progress.note(f"alerts will have no score of {state.name} {state.version}: {state.reason}")


def _show(current: Settings) -> None:
    from rich.table import Table

    from kowalski.runtime.status import gather_services

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("service", "address", "state", "log"):
        table.add_column(title, overflow="fold")
    for line in gather_services(current):
        table.add_row(line.name, line.address, line.state, line.log or "-")
    console = output()
    console.print(table)
    url = f"http://{current.server.host}:{current.server.port}"
    console.print(
        f"""
What next:
  send it alerts      ./kowalski.py stream --topic ztf_20231012_programid1 --path DIR
  see how it goes     ./kowalski.py status
  ask for data        from penquins import Kowalski
                      kowalski = Kowalski(protocol="http", host="{current.server.host}", port={current.server.port},
                                          username="{current.server.admin_username}", password="…")
                      kowalski.query({{"query_type": "info", "query": {{"command": "catalog_names"}}}})
  read about the API  {url}/docs/api/
  stop it             ./kowalski.py down""",
        markup=False,
    )
