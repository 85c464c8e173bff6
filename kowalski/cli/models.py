"""``models``: the machine-learning models that score alerts: fetch them, list them, try them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from kowalski.cli.console import complain, errors, output, settings
from kowalski.config import ConfigError, Settings

if TYPE_CHECKING:
    from rich.progress import TaskID

    from kowalski.ml.ready import State
    from kowalski.ml.trial import Trial
    from kowalski.surveys.base import Alert

Names = Annotated[list[str] | None, typer.Argument(help="Only these models, e.g. braai; all without it.")]

SIMULATED_ALERTS = 32


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Machine-learning models: fetch, list, check.", no_args_is_help=True)
    for command in (fetch, list_models, check):
        group.command(command.__name__.removesuffix("_models"))(command)
    app.add_typer(group, name="models")


def fetch(names: Names = None) -> None:
    """Fetch the weights that are not in `path.models` from where their authors publish them."""
    from kowalski.ml.ready import fetch_missing

    current = settings()
    _known(current, names)
    with Bars() as bars:
        states = fetch_missing(current, bars.show, names)
    for state in states:
        output().print(f"{state.name} {state.version}: {state.weights or state.reason}", markup=False)
    _finish([state for state in states if state.weights is None])


def list_models(names: Names = None) -> None:
    """List the declared models, their weights and whether they can score."""
    from kowalski.ml.ready import states

    current = settings()
    _known(current, names)
    _show(states(current, names), {})


def check(names: Names = None) -> None:
    """Make the models ready (fetch, convert), load them and let them score simulated alerts."""
    from kowalski.ml.ready import ensure_ready
    from kowalski.ml.trial import try_models

    current = settings()
    _known(current, names)
    with Bars() as bars:
        states = ensure_ready(current, bars.show, names)
    trials: dict[tuple[str, str], Trial] = {}
    for survey in dict.fromkeys(state.survey for state in states):
        tried = try_models(current, survey, _simulated(survey))
        trials |= {(survey, name): trial for name, trial in tried.items()}
    _show(states, trials)
    _finish([state for state in states if not state.is_ready or trials[state.survey, state.name].refused])


def _simulated(survey: str) -> list[Alert]:
    """Simulate a few alerts of a survey, where that is possible."""
    from kowalski.surveys import SURVEYS
    from kowalski.testing import simulator

    if not simulator.can_simulate(survey):
        return []
    packets = simulator.packets(SIMULATED_ALERTS, survey)
    return [SURVEYS[survey].shape(simulated.packet) for simulated in packets]


def _known(current: Settings, names: Sequence[str] | None) -> None:
    declared = [name for survey in current.ml.surveys for name in current.ml.of(survey).models]
    for name in names or ():
        if name not in declared:
            raise ConfigError(f"no model {name} is declared; there are {', '.join(declared) or 'none'}")


def _show(states: Sequence[State], trials: dict[tuple[str, str], Trial]) -> None:
    from rich.table import Table

    table = Table("survey", "model", "version", "state", box=None, pad_edge=False, header_style="bold")
    if trials:
        table.add_column("scores of simulated alerts")
    table.add_column("weights")
    for state in states:
        trial = trials.get((state.survey, state.name))
        usable = state.is_ready and not (trial and trial.refused)
        condition = "ready" if usable else "missing" if state.weights is None else "not ready"
        scores = [] if trial is None else ["-" if trial.scores is None else "{:.3g} … {:.3g}".format(*trial.scores)]
        table.add_row(state.survey, state.name, state.version, condition, *scores, str(state.weights or "-"))
    output().print(table)
    for state in states:
        trial = trials.get((state.survey, state.name))
        reason = state.reason or (trial.refused if trial else None)
        if reason:
            output().print(f"{state.name} {state.version}: {reason}", markup=False)


def _finish(lost: Sequence[State]) -> None:
    """End with exit status 1 if models are missing."""
    if lost:
        complain(f"alerts will have no score of {', '.join(state.name for state in lost)}")
        raise typer.Exit(1)


class Bars:
    """A progress bar for each file that is fetched, and one for the conversions."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=errors(), transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, name: str, done: int, total: int | None) -> None:
        """Show that ``name`` is at ``done`` of ``total``; see `kowalski.ml.fetch.Progress`."""
        bar = "conversions" if name.startswith("convert") else name
        if bar not in self._tasks:
            self._tasks[bar] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[bar], description=name, completed=done, total=total)
