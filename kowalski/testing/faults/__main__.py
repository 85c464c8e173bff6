"""Run a fault campaign and add it to a report."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from kowalski.cli.console import output
from kowalski.testing.faults import campaign, report, stage
from kowalski.testing.faults.kinds import all_kinds

WRONG, ENDED = 1, 143
TOLD = 50
"""So many sentences about what is wrong are printed for one round."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    usual = campaign.Plan()
    parser = argparse.ArgumentParser(
        prog="./kowalski.py test --faults",
        description="Break an instance in all ways while alerts flow, then look whether each alert was processed, "
        "wholly and once. Rounds are added to a report; the table is over all rounds in it.",
    )
    parser.add_argument("faults", nargs="?", type=int, default=usual.faults, help=f"how many (default: {usual.faults})")
    parser.add_argument("--seed", type=int, default=usual.seed, help="which ones, on which alerts")
    parser.add_argument("--per-round", type=int, default=usual.per_round, help="faults before all is drained")
    parser.add_argument("--pause", type=float, default=usual.pause, help="seconds between two faults, on average")
    parser.add_argument("--stop-seconds", type=float, default=usual.stop_seconds, help="how long SIGSTOP lasts")
    parser.add_argument("--rate", type=float, default=usual.rate, help="alerts per second and survey")
    parser.add_argument("--surveys", nargs="*", default=[], help="whose alerts (default: every second survey)")
    parser.add_argument(
        "--kinds", nargs="*", default=[], choices=list(all_kinds()), help="default: all", metavar="KIND"
    )
    parser.add_argument("--disk-mb", type=int, default=1500, help="size of the instance's small disk; 0: none")
    parser.add_argument(
        "--report", type=Path, default=Path("run/faults.jsonl"), help="file that grows (run/faults.jsonl)"
    )
    parser.add_argument("--folder", type=Path, help="new folder that keeps everything, logs above all")
    return parser.parse_args(given)


def main() -> int:
    """Run it; 1 if anything went wrong."""
    options, console = arguments(), output()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # so that what was started is ended, too
    plan = campaign.Plan(
        faults=options.faults,
        per_round=options.per_round,
        pause=options.pause,
        stop_seconds=options.stop_seconds,
        seed=options.seed,
        rate=options.rate,
        kinds=tuple(options.kinds),
    )
    grown = report.Report(options.report, plan.seed)

    def tell(done: campaign.Round) -> None:
        grown.add(done)
        console.print(campaign.sentence(done), markup=False)
        for text in [*done.findings.lost, *done.findings.half_done, *done.findings.doubled][:TOLD]:
            console.print(f"  {text}", markup=False)

    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kowalski-faults-")))
        campaign.run(plan, folder, stage.choose(options.surveys), tell, options.disk_mb)
    console.print(report.table(report.read(options.report), f"All rounds in {options.report}"))
    return 0 if report.is_clean(grown.lines) else WRONG


if __name__ == "__main__":
    sys.exit(main())
