"""The report of campaigns: a line of JSON per round in a file that grows, and a table over all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from kowalski.testing.faults.campaign import Round

Line = dict[str, Any]


class Report:
    """A report that grows by the rounds of one campaign.

    What is found wrong in a round and was wrong before it already is not counted again.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._path, self._seed = path, seed
        self._before: set[str] = set()
        self.lines: list[Line] = []
        """The rounds that were added."""

    def add(self, one: Round) -> None:
        """Add a round."""
        self.lines.append(_line(self._seed, one, self._before))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")


def _line(seed: int, one: Round, before: set[str]) -> Line:
    found = one.findings
    wrong = {
        topic: [text for text in getattr(found, topic) if text not in before]
        for topic in ("lost", "half_done", "doubled")
    }
    before.update(text for texts in wrong.values() for text in texts)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "round": one.number,
        "seconds": round(one.seconds, 1),
        "drained_after": one.drained_after,
        "alerts": found.alerts,
        "passes": found.passes,
        **wrong,
        "faults": [
            {
                "kind": fault.kind,
                "heal": None if fault.healed is None else round(max(0.0, fault.healed - fault.over), 1),
            }
            for fault in one.faults
        ],
    }


def read(path: Path) -> list[Line]:
    """Read a report; there may be none yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@dataclass(slots=True)
class Row:
    """What is known of one kind: times to heal of its faults (None: not healed), and what went wrong in its rounds."""

    heals: list[float | None] = field(default_factory=list)
    rounds: int = 0
    lost: int = 0
    half_done: int = 0
    doubled: int = 0

    @property
    def healed(self) -> list[float]:
        """Times to heal, seconds, in order."""
        return sorted(seconds for seconds in self.heals if seconds is not None)


def rows(lines: Iterable[Line]) -> dict[str, Row]:
    """Sum up by kind.

    Faults of a round overlap, so what went wrong in it counts for every kind that struck in it: never too few.
    """
    found: dict[str, Row] = {}
    for line in lines:
        for fault in line["faults"]:
            found.setdefault(fault["kind"], Row()).heals.append(fault["heal"])
        for kind in {fault["kind"] for fault in line["faults"]}:
            row = found[kind]
            row.rounds += 1
            row.lost += len(line["lost"])
            row.half_done += len(line["half_done"])
            row.doubled += len(line["doubled"])
    return dict(sorted(found.items()))


HEADINGS = ("fault", "faults", "rounds", "lost", "half done", "doubled", "not healed", "heals, median s", "longest s")


def cells(lines: Iterable[Line]) -> Iterator[tuple[str, ...]]:
    """Give the table's rows as text, the sum last."""
    known = list(lines)
    by_kind = rows(known)
    for kind, row in by_kind.items():
        healed = row.healed
        figures = (len(row.heals), row.rounds, row.lost, row.half_done, row.doubled, len(row.heals) - len(healed))
        times = (f"{statistics.median(healed):.1f}", f"{healed[-1]:.1f}") if healed else ("-", "-")
        yield (kind, *map(str, figures), *times)
    total = sum(len(line["faults"]) for line in known)
    wrong = [sum(len(line[topic]) for line in known) for topic in ("lost", "half_done", "doubled")]
    open_ = sum(fault["heal"] is None for line in known for fault in line["faults"])
    yield ("all", *map(str, (total, len(known), *wrong, open_)), "", "")


def table(lines: Iterable[Line], title: str) -> Table:
    """Draw the table for a terminal."""
    drawn = Table(title=title)
    for number, heading in enumerate(HEADINGS):
        drawn.add_column(heading, justify="left" if number == 0 else "right")
    for row in cells(lines):
        drawn.add_row(*row, end_section=False)
    return drawn


def markdown(lines: Iterable[Line]) -> str:
    """Write the table for a page."""
    body = [HEADINGS, tuple("---" if number == 0 else "---:" for number in range(len(HEADINGS))), *cells(lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in body) + "\n"


def is_clean(lines: Iterable[Line]) -> bool:
    """Whether nothing at all went wrong, and everything healed and drained."""
    return not any(
        line["lost"] or line["half_done"] or line["doubled"] or line["drained_after"] is None
        or any(fault["heal"] is None for fault in line["faults"])
        for line in lines
    )  # fmt: skip
