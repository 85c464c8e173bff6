"""The plots of a performance report."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kowalski.archive.activity import Work
from kowalski.performance.gathering import HOURS, Performance

WIDTH, HEIGHT = 9.0, 3.2
"""Inches of one plot."""
QUANTILES = (0.5, 0.95, 0.99)


def draw(found: Performance) -> list[Figure]:
    """Draw whatever there is something to show of."""
    figures = []
    for survey in sorted(found.hours):
        total = found.total(survey)
        figures.append(_figure(f"{survey}: alerts per hour"))
        _alerts(figures[-1].gca(), found.hours[survey])
        if total.waiting:
            figures.append(_figure(f"{survey}: seconds from Kafka to the end of the last stage"))
            _latency(figures[-1].gca(), found.hours[survey])
        if total.stages and total.alerts:
            figures.append(_figure(f"{survey}: what the stages cost"))
            _stages(figures[-1].gca(), total)
    if found.filters:
        figures.append(_figure("Passes of filters"))
        _filters(figures[-1].gca(), found)
    return figures


def _figure(title: str) -> Figure:
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _alerts(axes: Axes, hours: list[Work]) -> None:
    axes.bar(range(HOURS), [work.alerts for work in hours], align="edge", width=0.9)
    axes.set(xlabel="hour (UTC)", ylabel="alerts", xlim=(0, HOURS))


def _latency(axes: Axes, hours: list[Work]) -> None:
    """Draw a line per quantile; hours without packets are gaps."""
    middles = [number + 0.5 for number in range(HOURS)]
    for part in QUANTILES:
        values = [work.waiting.quantile(part) for work in hours]
        axes.plot(
            middles, [float("nan") if value is None else value for value in values], "o-", ms=3, label=_name(part)
        )
    axes.set(xlabel="hour (UTC)", ylabel="s", xlim=(0, HOURS), yscale="log")
    axes.legend(frameon=False)


def _stages(axes: Axes, work: Work) -> None:
    stages = list(work.stages)
    for offset, kind in ((-0.2, "wall"), (0.2, "cpu")):
        values = [1000.0 * getattr(work.stages[stage], kind) / work.alerts for stage in stages]
        axes.barh([place + offset for place in range(len(stages))], values, height=0.38, label=kind)
    axes.set_yticks(range(len(stages)), stages)
    axes.invert_yaxis()
    axes.set(xlabel="ms per alert")
    axes.legend(frameon=False)


def _filters(axes: Axes, found: Performance) -> None:
    labels = [str(line.filter_id) for line in found.filters]
    axes.bar(range(len(labels)), [line.passes for line in found.filters], width=0.9)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(xlabel="filter", ylabel="passes")


def _name(part: float) -> str:
    return f"{100 * part:g} %"
