"""``report``: what was done on a day, and what it cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from kowalski.cli.console import output, settings
from kowalski.config import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    night: Annotated[str | None, typer.Option(help="YYYYMMDD (UTC); without it, yesterday.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write: .html or .pdf, with plots.")] = None,
    slack: Annotated[bool, typer.Option("--slack", help="Send it as watchers.report says.")] = False,
) -> None:
    """Tell alerts, latency, cost of stages, passes of filters and dead letters of a day."""
    from kowalski.archive import client
    from kowalski.performance import gathering, writing

    current = settings()
    chosen = _night(night)
    own = current.watchers.report
    if slack and not own.to_slack:
        raise ConfigError(
            "Slack is not configured: set watchers.report.slack_webhook, or slack_token and slack_channel"
        )
    if out is not None and out.suffix.lower() not in (".html", ".pdf"):
        raise ConfigError(f"{out} must end with .html or .pdf")
    with client.connect(current) as connection:
        found = gathering.gather(client.system_database(connection, current), chosen)
    text = writing.text_of(found)
    output().print(text, markup=False)
    if slack and out is None:
        out = current.path.data / own.folder / f"{chosen:%Y%m%d}.{own.format}"
    if out is not None:
        writing.write(found, out)
    if slack and out is not None:
        import time

        from kowalski.performance import slack as channel
        from kowalski.watchers.web import Web

        with Web(current.watchers, own, time.sleep) as web:
            channel.send(web, own, text, out)


def _night(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date() - timedelta(days=1)
    try:
        return datetime.strptime(text.replace("-", ""), "%Y%m%d").date()
    except ValueError as error:
        raise ConfigError(f"{text} is no night; write it as YYYYMMDD, e.g. 20231012") from error
