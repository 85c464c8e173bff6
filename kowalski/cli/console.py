"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status
from rich.text import Text

from kowalski.config import ConfigError, Settings, load

FILE_WIDTH = 200
"""Columns where no terminal sets a limit."""


def output() -> Console:
    """Where results go."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def errors() -> Console:
    """Where complaints and progress go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """Print what went wrong."""
    console = errors()
    console.print("Error:", style="bold red", end=" ")
    console.print(sentence, markup=False)


def settings(*, warn: bool = False) -> Settings:
    """Load the settings that ``--config``, ``KOWALSKI_CONFIG`` and the environment name.

    Parameters
    ----------
    warn
        Also say which settings have no effect.

    Raises
    ------
    ConfigError
        If they can't be used.
    """
    loaded = load()
    if warn:
        console = errors()
        for sentence in loaded.warnings:
            console.print("Warning:", style="yellow", end=" ")
            console.print(sentence, markup=False)
    return loaded.settings


def survey_name(name: str) -> str:
    """Find the survey that the operator means, whatever the case.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from kowalski import surveys

    settings(warn=False)  # they may declare further surveys
    try:
        return surveys.get(name).name
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from error


class Progress:
    """Shows what is going on: a line that moves on a terminal, a line per step elsewhere.

    It is a `kowalski.runtime.lifecycle.Reporter`.
    """

    def __init__(self) -> None:
        self._console = errors()
        self._status: Status | None = None
        self._tenth = -1

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("…")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, text: str) -> None:
        """Something begins that may take a while."""
        if self._status is not None:
            self._status.update(text)

    def progress(self, name: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes of ``name``, or of all files of which it is one, are there."""
        size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        if self._status is not None:
            self._status.update(f"downloading {name} ({size})")
            return
        tenth = 10 * done // total if total else 0
        if tenth != self._tenth:  # a log file needs no more than ten lines of it
            self._tenth = tenth
            self._console.print(f"  downloading {name} ({size})", markup=False)

    def ready(self, text: str) -> None:
        """Something is done."""
        self._console.print("[green]✓[/green]", end=" ")
        self._console.print(text, markup=False)

    def note(self, text: str) -> None:
        """Something the operator should know."""
        self._console.print("[yellow]![/yellow]", end=" ")
        self._console.print(text, markup=False)


class DocumentsBar:
    """Shows, for one collection after the other, how many documents are done; call it with name, done and total."""

    def __init__(self) -> None:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=errors(), disable=not errors().is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """``done`` documents of ``total`` (None: nobody knows) are there."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


class _Rate(ProgressColumn):
    """Documents per second."""

    def render(self, task: Task) -> Text:
        """Show the rate of a task."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")
