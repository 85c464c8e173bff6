"""``status``: what runs, how far the work is, and what is wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import output, settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kowalski.runtime.status import Status

LATEST = 3
"""Changes of a schema that are told by name; `--json` tells all."""
MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as one JSON object.")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="The containers that `up --docker` has started.")] = False,
) -> None:
    """Tell the state of every service, the backlog, and what is missing; exit status 1 if something is down."""
    from kowalski.runtime import compose
    from kowalski.runtime.status import gather

    if docker:
        compose.check()
        raise typer.Exit(compose.status(settings(), as_json=as_json))

    found = gather(settings())
    console = output()
    if as_json:
        console.print(json.dumps(found.as_dict(), default=str, indent=1), markup=False)
    else:
        console.print(_services(found))
        _work(found, console)
    raise typer.Exit(0 if found.ok else 1)


def _services(found: Status) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "service", "state", "pid", "uptime"):
        table.add_column(title, no_wrap=True)
    for title in ("address", ""):
        table.add_column(title, overflow="fold")
    for line in found.services:
        uptime = "" if line.uptime is None else str(timedelta(seconds=int(line.uptime)))
        table.add_row(
            MARKS[line.healthy], line.name, line.state, str(line.pid or ""), uptime, line.address, line.detail
        )
    return table


def _work(found: Status, console: Console) -> None:
    """Print what is to be done, and what keeps it from being done well."""
    console.print()
    for survey, topics in found.lag.items():
        behind = {topic: lag for topic, lag in topics.items() if lag}
        where = "; ".join(f"{topic}: {lag}" for topic, lag in behind.items())
        console.print(f"{survey}: {sum(topics.values())} alerts waiting in Kafka" + (f" ({where})" if where else ""))
    if found.dead_letters is not None:
        hint = " (see ./kowalski.py deadletters list)" if found.dead_letters else ""
        console.print(f"dead letters: {found.dead_letters}{hint}")
    if found.outbox is not None:
        waiting = f", the oldest for {found.outbox_age:.0f} s" if found.outbox_age is not None else ""
        hint = " (see ./kowalski.py outbox list)" if found.outbox.get("failed") else ""
        counts = ", ".join(f"{count} {state}" for state, count in found.outbox.items())
        console.print(f"outbox: {counts}{waiting}{hint}")
    if found.skyportal:
        looked = found.skyportal["looked_through"]
        since = "never yet" if looked is None else f"{looked:%Y-%m-%d %H:%M:%S} UTC"
        console.print(f"SkyPortal: has {found.skyportal['objects']} objects; its sources were looked through: {since}")
    for survey, models in found.models.items():
        console.print(
            f"{survey}: scores by " + (", ".join(f"{name} {version}" for name, version in models.items()) or "none")
        )
    for name, keys in found.not_configured.items():
        console.print(f"[dim]watcher {name}: not configured (set {keys})[/dim]")
    for text in _shortcomings(found):
        console.print("[yellow]![/yellow]", end=" ")
        console.print(text, markup=False)
    for text in found.problems:
        console.print("[red]✗[/red]", end=" ")
        console.print(text, markup=False)


def _shortcomings(found: Status) -> list[str]:
    """What does not stop the work, but leaves something out."""
    texts = []
    for survey, models in found.missing_models.items():
        texts += [f"{survey}: no score of {name}: {reason}" for name, reason in models.items()]
    for survey, counts in found.absent_scores.items():
        texts += [f"{survey}: {number} alerts without a score of {what}" for what, number in sorted(counts.items())]
    for survey, catalogs in found.missing_catalogs.items():
        for reason in dict.fromkeys(catalogs.values()):
            told = ", ".join(name for name, why in catalogs.items() if why == reason)
            texts.append(f"{survey}: alerts are not matched with {told} ({reason})")
    for survey, changes in found.schema_changes.items():
        latest = ", ".join(f"{one['field']} ({one['type']})" for one in changes[-LATEST:])
        texts.append(f"{survey}: {len(changes)} fields of its packets are new or of another type; the latest: {latest}")
    for name, report in found.watchers.items():
        if report.get("trouble"):
            texts.append(f"watcher {name} waits: {report['trouble']}")
        if report.get("rejected"):
            first = report["rejected"][0]
            texts.append(f"watcher {name}: {report['rejected_count']} things of the last pass not taken; {first}")
    for document in found.suspended_filters:
        reason = document["suspended"].get("reason", "it kept failing")
        texts.append(f"filter {document['filter_id']} (group {document['group_id']}) is switched off: {reason}")
    return texts
