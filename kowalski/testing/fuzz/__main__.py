"""Feed damaged messages of every survey to the decode stage, and keep those that break a rule."""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from kowalski.surveys import SURVEYS
from kowalski.testing.fuzz import Fuzzer, Tally

PIECE = 500


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./kowalski.py test --fuzz", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=20_000, help="how many messages (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, help="equal seeds try equal messages")
    parser.add_argument(
        "--folder", type=Path, default=Path("run/fuzz"), help="where messages that break a rule are kept"
    )
    return parser.parse_args(given)


def main() -> int:
    """Run it; 1 if a message broke a rule."""
    options, console, tally = arguments(), Console(), Tally()
    warnings.filterwarnings("ignore", module="astropy")  # it has an opinion of every damaged stamp
    logging.getLogger("astropy").setLevel(logging.ERROR)
    fuzzers = [Fuzzer(survey, options.seed) for survey in SURVEYS.values() if survey.simulator]
    begun = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("messages", total=options.count)
        turn = 0
        while tally.tried < options.count:
            fuzzers[turn % len(fuzzers)].run(min(PIECE, options.count - tally.tried), tally)
            progress.update(task, completed=tally.tried)
            turn += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    outcomes = ", ".join(f"{outcome}: {number:,}" for outcome, number in sorted(tally.outcomes.items()))
    console.print(
        f"seed {options.seed}: {tally.tried:,} messages in {time.monotonic() - begun:.0f} s; {outcomes}; "
        f"longest {1000 * tally.longest:.0f} ms; peak memory {peak:.0f} MB; {len(tally.failures)} broke a rule",
        markup=False,
    )
    for reason, value in tally.failures:
        options.folder.mkdir(parents=True, exist_ok=True)
        path = options.folder / f"{sha256(value).hexdigest()[:16]}.bin"
        path.write_bytes(value)
        console.print(f"{path}: {reason}", markup=False)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
