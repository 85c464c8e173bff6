"""A performance report as text, as a page that stands alone, and as PDF."""

from __future__ import annotations

import io
import os
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from kowalski.performance.gathering import Performance
from kowalski.performance.plots import QUANTILES, draw

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, names of the columns, rows."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}td,th{padding:.2rem .8rem;
text-align:right}td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}</style>
<h1>{{ title }}</h1>
{% if not tables %}<p>Nothing was done.</p>{% endif %}
{% for name, head, rows in tables %}<h2>{{ name }}</h2><table><tr>{% for cell in head %}<th>{{ cell }}{% endfor %}
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}
{% endfor %}</table>
{% endfor %}
{% for plot in plots %}{{ plot }}
{% endfor %}</html>
"""
LINES_PER_PAGE = 45


def title_of(found: Performance) -> str:
    """Name a report."""
    return f"Performance on {found.night:%Y-%m-%d} (UTC)"


def tables_of(found: Performance) -> list[Table]:
    """Put what is to be told into tables; those without rows are left out."""
    surveys = [(name, found.total(name)) for name in sorted(found.hours)]
    waited = tuple(f"{100 * part:g} % within" for part in QUANTILES)
    tables: list[Table] = [
        (
            "Alerts",
            ("survey", "packets", "alerts", "passes", "dead letters", *waited),
            [
                (
                    name,
                    *(f"{number:,}" for number in (work.packets, work.alerts, work.passes, work.rejected)),
                    *(_seconds(work.waiting.quantile(part)) for part in QUANTILES),
                )
                for name, work in surveys
            ],
        ),
        (
            "Stages",
            ("survey, stage", "ms per alert", "ms CPU per alert"),
            [
                (f"{name}, {stage}", f"{1000 * cost.wall / work.alerts:.3f}", f"{1000 * cost.cpu / work.alerts:.3f}")
                for name, work in surveys
                if work.alerts
                for stage, cost in work.stages.items()
            ],
        ),
        (
            "Filters",
            ("filter", "group", "passes", "ms per alert"),
            [
                (str(line.filter_id), str(line.group_id), f"{line.passes:,}", _number(line.ms_per_alert))
                for line in found.filters
            ],
        ),
        (
            "Deliveries",
            ("outlet", "alerts", *waited),
            [
                (outlet, f"{sum(waiting.values()):,}", *(_seconds(waiting.quantile(part)) for part in QUANTILES))
                for outlet, waiting in found.delivery.items()
            ],
        ),
        (
            "Dead letters",
            ("survey, stage", "packets", "reason"),
            [(f"{line.survey}, {line.stage}", f"{line.number:,}", line.reason) for line in found.letters],
        ),
    ]
    return [table for table in tables if table[2]]


def text_of(found: Performance) -> str:
    """Write the tables as text, for a terminal or a message."""
    parts = [title_of(found)]
    for name, head, rows in tables_of(found):
        widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
        parts.append("\n".join([name, *(line.rstrip() for line in lines)]))
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "Nothing was done."])


def write(found: Performance, path: Path) -> None:
    """Write the report under a name, whole or not at all; ``.pdf`` makes a PDF, anything else a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(_pdf(found) if path.suffix.lower() == ".pdf" else _page(found).encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _page(found: Performance) -> str:
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
    plots = [Markup(_svg(figure)) for figure in draw(found)]
    return template.render(title=title_of(found), tables=tables_of(found), plots=plots)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def _pdf(found: Performance) -> bytes:
    pages = io.BytesIO()
    lines = text_of(found).splitlines()
    with PdfPages(pages, metadata={"Title": title_of(found)}) as pdf:
        for begin in range(0, len(lines), LINES_PER_PAGE):
            sheet = Figure((8.27, 11.69))
            text = "\n".join(line[:110] for line in lines[begin : begin + LINES_PER_PAGE])
            text = text.replace("$", r"\$")  # or it would be read as a formula
            sheet.text(0.06, 0.95, text, va="top", family="monospace", fontsize=7.5)
            pdf.savefig(sheet)
        for figure in draw(found):
            pdf.savefig(figure)
    return pages.getvalue()


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} s"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
