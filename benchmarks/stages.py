#!/usr/bin/env python3
"""Where an alert's milliseconds go: every stage of one worker in this process, and MongoDB's part of each.

Starts a MongoDB of its own and takes the workload of ``throughput.py`` through the stages, batch by batch, without
Kafka, Dask and broker. MongoDB's CPU is read before and after each stage of each batch; that is what a stage makes it
do at once, its work in the background (journal, checkpoints) falls where it falls.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting, throughput
from kowalski.broker import stream
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import STAGES
from kowalski.broker.stages import decode
from kowalski.config.settings import Broker
from kowalski.testing import services


def arguments() -> argparse.Namespace:
    """Read the command line: the options of ``throughput.py`` and two more."""
    parser = throughput.parser(__doc__)
    parser.add_argument("--profile", metavar="STAGE", help="print Python's profile of one stage, too")
    return throughput.checked(parser.parse_args())


def batches(options: argparse.Namespace, alerts: Path) -> Iterator[list[Packet]]:
    """Read packets as a broker would hand them over."""
    size = options.batch_size or Broker().batch_size
    packets: list[Packet] = []
    for offset, path in enumerate(stream.find_packets(alerts, options.n)):
        packets.append(Packet("night", 0, offset, int(1000 * time.time()), path.read_bytes()))
        if len(packets) == size:
            yield packets
            packets = []
    if packets:
        yield packets


def main() -> None:
    """Run the stages and print what each one costs."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-") as folder:
        settings = throughput.instance(options, Path(folder) / "run")
        with services.running(settings, mongod=True) as servers:
            benchmark = throughput.Benchmark(options, settings)
            benchmark.load()
            assert servers.mongod is not None
            measure(options, benchmark, WorkerContext.open(settings, benchmark.survey), servers.mongod.pid)


def measure(options: argparse.Namespace, benchmark: throughput.Benchmark, context: WorkerContext, mongod: int) -> None:
    """Take every batch through all stages, as often as asked, and print each round."""
    gc.freeze()  # as a worker does
    gc.set_threshold(200_000, 20, 100)
    server, profile = psutil.Process(mongod), cProfile.Profile()
    for number in range(options.rounds):
        benchmark.empty()
        worker: dict[str, float] = defaultdict(float)
        wall: dict[str, float] = defaultdict(float)
        database: dict[str, float] = defaultdict(float)
        alerts = 0
        started = sum(server.cpu_times()[:2])
        for packets in batches(options, benchmark.alerts):
            batch = None
            for name, stage in ((decode.NAME, None), *STAGES):
                before, cpu, clock = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
                if name == options.profile:
                    profile.enable()
                if stage is None:
                    batch = decode.decode(packets, context.survey, context.decoder)
                else:
                    assert batch is not None
                    stage(batch, context)
                profile.disable()
                worker[name] += time.process_time() - cpu
                wall[name] += time.perf_counter() - clock
                database[name] += sum(server.cpu_times()[:2]) - before
            alerts += len(packets)
        total = sum(server.cpu_times()[:2]) - started
        print(f"\nround {number + 1}, {alerts} alerts; calibration loop: {accounting.calibrate():.2f} CPU-s")
        print("CPU-ms per alert")
        print(f"  {'stage':<12} {'worker':>8} {'mongod':>8} {'wall':>8}")
        for name in worker:
            print(f"  {name:<12}" + "".join(f" {1000 * each[name] / alerts:8.3f}" for each in (worker, database, wall)))
        print(f"  {'all':<12} {1000 * sum(worker.values()) / alerts:8.3f} {1000 * total / alerts:8.3f}", flush=True)
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
