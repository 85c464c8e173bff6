#!/usr/bin/env python3
"""Draws where an alert's milliseconds go, and writes the tables beside it, from what ``throughput.py --json`` writes.

``picture.py results/2026-11-21.json`` renews ``docs/performance.svg`` and the part of ``docs/performance.md`` between
its two marks; nothing there is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- measured: made by benchmarks/picture.py -->", "<!-- end of what was measured -->"
LEFT, BAR, LINE, RIGHT = 130, 420, 22, 90
"""Pixels: names, longest bar, height of a line, figures."""
COLOURS = {"cpu": "#3b6ea5", "wall": "#c9d8e8"}


class ResultsError(Exception):
    """The file is no results of the benchmark; the text says why."""


def read(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises
    ------
    ResultsError
        If it can't be read, or lacks something.
    """
    try:
        found = json.loads(path.read_text())
        processes = {str(name): float(ms) for name, ms in found["processes"].items()}
        stages = {str(name): (float(one["cpu"]), float(one["wall"])) for name, one in found["stages"].items()}
        return {**found, "date": str(found["date"]), "processes": processes, "stages": stages}
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise ResultsError(f"{path} is no results file of throughput.py --json: {what}") from error


def largest_first(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Order by cost."""
    return sorted(values.items(), key=lambda item: item[1], reverse=True)


def picture(found: Mapping[str, Any]) -> str:
    """Draw bars as SVG: CPU-ms of each process, CPU-ms and wall-clock of each stage, on one scale."""
    processes, stages = largest_first(found["processes"]), largest_first(found["stages"])
    longest = max([ms for _, ms in processes] + [ms for _, both in stages for ms in both], default=0.0) or 1.0
    lines: list[str] = []
    y = 20
    for title, rows in (
        ("CPU-ms per alert, by process", [(name, (ms, None)) for name, ms in processes]),
        ("by stage in the workers: CPU-ms; pale: wall-clock", stages),
    ):
        lines.append(f'<text x="8" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 10
        for name, (cpu, wall) in rows:
            lines += _bars(name, cpu, wall, y, BAR / longest)
            y += LINE
        y += 24
    width = LEFT + BAR + RIGHT
    size = f'width="{width}" height="{y - 10}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    ground = f'<rect {size} fill="white"/>'
    return "\n".join([head, ground, *lines, "</svg>", ""])


def _bars(name: str, cpu: float, wall: float | None, y: int, scale: float) -> Iterable[str]:
    yield f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
    told = f"{cpu:.2f}"
    if wall is not None:
        yield _bar("wall", wall, y, scale)
        told += f" ({wall:.2f})"
    yield _bar("cpu", cpu, y, scale)
    end = LEFT + max(cpu, wall or 0.0) * scale
    yield f'<text x="{end + 6:.1f}" y="{y + 15}" font-size="11">{told}</text>'


def _bar(kind: str, ms: float, y: int, scale: float) -> str:
    return f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{ms * scale:.1f}" height="16" fill="{COLOURS[kind]}"/>'


def tables(found: Mapping[str, Any]) -> str:
    """Write the same as tables."""
    total = sum(found["processes"].values())
    rate = f", {found['alerts_per_second']:.0f} alerts/s" if "alerts_per_second" in found else ""
    lines = [
        f"Measured on {found['date']}: {found['alerts']:,} alerts of {found['survey']}, {total:.2f} CPU-ms per alert,",
        f"all processes together{rate}.",
        "",
        "![Where an alert's milliseconds go](performance.svg)",
        "",
        "| process | CPU-ms per alert | part |",
        "|---|---|---|",
        *(f"| {name} | {ms:.2f} | {ms / total:.0%} |" for name, ms in largest_first(found["processes"])),
        f"| **all** | **{total:.2f}** | |",
        "",
        "| stage in the workers | CPU-ms per alert | wall-ms |",
        "|---|---|---|",
        *(f"| {name} | {cpu:.2f} | {wall:.2f} |" for name, (cpu, wall) in largest_first(found["stages"])),
    ]
    return "\n".join(lines)


def renewed(page: str, found: Mapping[str, Any]) -> str:
    """Put new tables between the marks of a page.

    Raises
    ------
    ResultsError
        If it has no marks.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ResultsError(f"the page has no marks {BEGIN} and {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n{tables(found)}\n{END}", page)


def main(arguments: list[str] | None = None) -> int:
    """Renew picture and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what throughput.py --json has written")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of performance.md and performance.svg")
    options = parser.parse_args(arguments)
    try:
        found = read(options.results)
        page = options.docs / "performance.md"
        text = renewed(page.read_text(), found)
    except (ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    page.write_text(text)
    (options.docs / "performance.svg").write_text(picture(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
