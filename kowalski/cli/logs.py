"""``logs``: what services have written."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import output, settings

if TYPE_CHECKING:
    from kowalski.runtime.journal import Entry

LINES = 50
COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
"""Of services; yellow and red are for warnings and errors."""
LEVELS: dict[str, int] = {
    name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error", "critical")
}
AGO = re.compile(r"(\d{1,6})(s|m|h|d|w)")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def logs(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="As in `status`: api, worker, worker-0, broker-ztf …; or supervisord. None: all."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as services write, until Ctrl-C.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", min=0, help=f"How many of the last entries of each service; {LINES}, or all with --since."
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            help="Only what this regular expression is found in; all in lower case, it means upper case, too."
        ),
    ] = None,
    level: Annotated[str | None, typer.Option(help=f"Only what is as bad or worse: {', '.join(LEVELS)}.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what is newer: 90s, 10m, 2h, 3d, 1w; or 2026-01-31T20:00 (UTC).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, a line for each entry: service, time, level, message, fields.")
    ] = False,
) -> None:
    """Show what services have written, by time; lines that have no time belong to the line before."""
    from kowalski.runtime import journal

    start = None if since is None else _moment(since)
    fits = _filter(_pattern(grep), None if level is None else _level(level), start)
    folder = settings().path.run / "logs"
    paths = _find(folder, names or [])
    width = max(len(path.stem) for path in paths) if len(paths) > 1 or not names else None
    show = _in_json if as_json else _in_text(width)
    most = LINES if lines is None and start is None else lines
    with ExitStack() as stack:
        found = [stack.enter_context(journal.Log(path, whole_lines=follow)) for path in paths]
        for entry in journal.merged(found, fits, most, start):
            show(entry)
        followers = {log.path: log.follow() for log in found} if follow else {}
    if follow:
        for entry in filter(fits, journal.followed(followers, lambda: _logs(folder, names or []))):
            show(entry)


def _logs(folder: Path, names: list[str]) -> list[Path]:
    from kowalski.runtime.journal import find

    wanted: list[str | None] = [*names] or [None]
    return list(dict.fromkeys(path for name in wanted for path in find(folder, name)))


def _find(folder: Path, names: list[str]) -> list[Path]:
    """Find the logs, each of which must be there."""
    from kowalski.runtime.errors import ServiceError

    known = ", ".join(path.stem for path in _logs(folder, [])) or "none"
    for name in names:
        if not _logs(folder, [name]):
            raise ServiceError(f"there is no log of {name} in {folder}; there are: {known}")
    paths = _logs(folder, names)
    if not paths:
        raise ServiceError(f"there are no logs in {folder}; start services with ./kowalski.py up")
    return paths


def _filter(pattern: re.Pattern[str] | None, least: int | None, start: datetime | None) -> Callable[[Entry], bool]:
    def fits(entry: Entry) -> bool:
        return (
            (start is None or entry.time >= start)
            and (least is None or (entry.level is not None and entry.level >= least))
            and (pattern is None or pattern.search(entry.text) is not None)
        )

    return fits


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text, re.IGNORECASE if text == text.lower() else 0)
    except re.error as error:
        raise typer.BadParameter(
            f"{text!r} is no regular expression ({error}); put \\ before signs such as ( [ * that stand for themselves",
            param_hint="--grep",
        ) from error


def _level(name: str) -> int:
    if name.lower() not in LEVELS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(LEVELS)}", param_hint="--level")
    return LEVELS[name.lower()]


def _moment(text: str) -> datetime:
    """Read how long ago, or when."""
    try:
        if ago := AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2026-01-31T20:00 nor a span such as 90s, 10m, 2h or 3d",
            param_hint="--since",
        ) from error


def _in_json(entry: Entry) -> None:
    event = {
        "service": entry.service,
        "time": entry.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": None if entry.level is None else logging.getLevelName(entry.level),
        "message": entry.message,
    }
    typer.echo(json.dumps(event | ({"fields": entry.fields} if entry.fields else {}), default=str))


def _in_text(width: int | None) -> Callable[[Entry], None]:
    """Show entries as they were written, each line after its service's name (in so many columns; None: without)."""
    from rich.text import Text

    console = output()
    colours: dict[str, str] = {}

    def show(entry: Entry) -> None:
        bad = entry.level or logging.NOTSET
        style = "red" if bad >= logging.ERROR else "yellow" if bad >= logging.WARNING else ""
        colour = colours.setdefault(entry.service, COLOURS[len(colours) % len(COLOURS)])
        for line in entry.text.split("\n"):
            # A log holds what clients have sent, which must not steer the terminal.
            clean = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line)
            prefix = [] if width is None else [(f"{entry.service:<{width}} | ", colour)]
            console.print(Text.assemble(*prefix, (clean, style)))

    return show
