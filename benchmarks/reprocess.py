#!/usr/bin/env python3
"""What it costs to run stored alerts through stages again, beside what they cost when they came in.

Alerts are drained from Kafka as in ``throughput.py``; then ``reprocess`` runs on them, as its command does: all stages,
and those that a new catalog and a new filter need. Printed: alerts per second and CPU-ms per alert of all processes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting, throughput
from kowalski.broker.reprocess import Plan, Reprocessing, hands_of
from kowalski.cli.reprocess import ALL
from kowalski.testing import services

RUNS = (ALL, "crossmatch,filter", "score", "crossmatch", "filter")
EVER = (date(2000, 1, 1), date(2100, 1, 1))


def main() -> None:
    """Run it."""
    options = throughput.checked(throughput.parser(__doc__).parse_args())
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = throughput.instance(options, Path(folder) / "run")
        with services.running(settings, mongod=True, kafka=True) as servers:
            benchmark = throughput.Benchmark(options, settings)
            benchmark.load()
            with benchmark.running(servers):
                measure(benchmark)


def measure(benchmark: throughput.Benchmark) -> None:
    """Warm up, drain, do it again, and print a line for each."""
    night, count = benchmark.survey.topic_of, benchmark.options.n
    benchmark.drain(night(date(2023, 1, 1)), min(throughput.WARM_UP, count))
    live = benchmark.drain(night(date(2023, 1, 2)), count)
    print(f"calibration loop: {accounting.calibrate():.2f} CPU-s\n")
    print("| | alerts | alerts/s | CPU-ms per alert | of it |")
    print("|---|---:|---:|---:|---|")
    line("live", live)
    for stages in RUNS:
        line(f"reprocess {stages}", again(benchmark, stages))


def again(benchmark: throughput.Benchmark, stages: str) -> throughput.Drain:
    """Run all stored alerts through stages again."""
    data, system, settings = benchmark.data, benchmark.system, benchmark.settings
    before, own, start = accounting.usage(benchmark.processes), time.process_time(), time.monotonic()
    run = Reprocessing(settings, Plan(benchmark.survey, *EVER, tuple(stages.split(","))), data, system, None)
    hands = hands_of(settings, benchmark.survey)
    try:
        for _ in run.run(hands):
            pass
    finally:
        hands.close()
    seconds, own = time.monotonic() - start, time.process_time() - own
    spent = accounting.spent(before, accounting.usage(benchmark.processes)) | {"command": own}
    if run.failures or run.progress.done != run.progress.total:
        raise SystemExit(f"{run.progress}: {run.failures}")
    return throughput.Drain(run.progress.done, seconds, spent, {})


def line(name: str, drain: throughput.Drain) -> None:
    """Print what a run took."""
    together: dict[str, float] = {}
    for process, seconds in drain.cpu.items():
        key = "workers" if process.startswith("worker-") else process
        together[key] = together.get(key, 0.0) + 1000.0 * seconds / drain.alerts
    parts = ", ".join(f"{key} {ms:.2f}" for key, ms in sorted(together.items(), key=lambda one: -one[1]) if ms >= 0.005)
    rate = drain.alerts / drain.seconds
    print(f"| {name} | {drain.alerts} | {rate:.0f} | {drain.milliseconds:.2f} | {parts} |", flush=True)


if __name__ == "__main__":
    main()
