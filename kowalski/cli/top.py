"""``top``: a live view of rates, queues, latencies, and of the slowest stages and filters."""

from __future__ import annotations

import json
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import complain, output, settings

if TYPE_CHECKING:
    from pymongo.database import Database
    from rich.console import Group
    from rich.table import Table

    from kowalski.archive.client import Document
    from kowalski.config import Settings
    from kowalski.monitoring.view import Look, View

SHOWN = 10
"""Lines of stages and of filters."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one view, without a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one view as a JSON object.")] = False,
) -> None:
    """Show what the instance is busy with, again and again; q or Ctrl-C ends it."""
    from kowalski.archive import client

    current = settings()
    with client.connect(current, serverSelectionTimeoutMS=3000) as connection:
        system = client.system_database(connection, current)
        if once or as_json:
            before = _look(current, system)
            time.sleep(interval)
            shown = _compare(before, _look(current, system))
            output().print(json.dumps(shown.as_dict(), indent=1), markup=False) if as_json else output().print(
                _page(shown)
            )
        else:
            _watch(current, system, interval)


def _watch(current: Settings, system: Database[Document], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    # Where a shell has started it in the background it would otherwise not hear of Ctrl-C at its terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = _look(current, system)
    console = Console(highlight=False)
    with _keys() as keys, Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        live.update("looking …", refresh=True)
        try:
            while not _pressed(keys, interval):
                after = _look(current, system)
                live.update(_page(_compare(before, after)), refresh=True)
                before = after
        except KeyboardInterrupt:
            return


def _look(current: Settings, system: Database[Document]) -> Look:
    """Look at the figures; ends the command, in a sentence, where there are none."""
    from kowalski.monitoring import gathered
    from kowalski.monitoring.view import Look

    found = gathered.gather(current, system)
    look = Look.of(time.monotonic(), found)
    if not look.by("kowalski_up", "part")["database",]:
        complain("nothing runs here: MongoDB does not answer; start Kowalski with ./kowalski.py up")
        raise typer.Exit(1)
    if "process_start_time_seconds" not in look.values:
        complain("no service has told anything within the last minute; see ./kowalski.py status")
        raise typer.Exit(1)
    return look


def _compare(before: Look, after: Look) -> View:
    from kowalski.monitoring.view import compare

    return compare(before, after)


@contextmanager
def _keys() -> Iterator[int | None]:
    """Let single keys be read from the terminal, if there is one."""
    if not sys.stdin.isatty():
        yield None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield number
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _pressed(keys: int | None, seconds: float) -> bool:
    """Wait; whether q was pressed meanwhile."""
    if keys is None:
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([keys], [], [], left)
        if ready and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False


def _page(view: View) -> Group:
    from rich.console import Group
    from rich.text import Text

    pending, failed = view.outbox.get("pending", 0), view.outbox.get("failed", 0)
    waiting = f", the oldest for {view.outbox_age:.0f} s" if pending else ""
    queues = f"outbox: {pending} pending{waiting}, {failed} failed   dead letters: {view.dead_letters}"
    parts: list[Text | Table] = [_surveys(view), Text(), Text(queues)]
    parts += [Text(f"{part} does not answer", style="red") for part in view.down]
    return Group(*parts, Text(), _stages(view), Text(), _filters(view))


def _surveys(view: View) -> Table:
    table = _table("survey", "alerts/s", "passes/s", "refused/s", "batch", "lag", "in flight", "waiting", "p50", "p99")
    for line in view.surveys:
        rates = [f"{rate:.1f}" for rate in (line.alerts, line.passes, line.rejected)]
        queues = [_number(line.batch, ".0f"), _number(line.lag, "d"), str(line.in_flight), str(line.waiting)]
        table.add_row(line.survey, *rates, *queues, *(_number(each, ".2f", " s") for each in line.latency.values()))
    return table


def _stages(view: View) -> Table:
    table = _table("slowest stages", "of", "ms/alert", "CPU-ms/alert")
    for line in view.stages[:SHOWN]:
        table.add_row(line.stage, line.survey, f"{line.wall:.3f}", f"{line.cpu:.3f}")
    return table


def _filters(view: View) -> Table:
    table = _table("dearest filters", "ms/alert", "passes", "errors")
    for line in view.filters[:SHOWN]:
        share = "" if line.pass_rate is None else f"{line.pass_rate:.2%}"
        table.add_row(str(line.filter), _number(line.ms, ".3f"), share, str(line.errors))
    return table


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index == 0 or title == "of" else "right", no_wrap=True)
    return table


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"
