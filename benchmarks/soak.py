#!/usr/bin/env python3
"""Whether an instance stays as it is: memory and open files of each process, hour after hour.

A whole instance takes alerts at part of its drain rate while SkyPortal goes away and comes back all the time. Resident
memory and open files of each process are sampled; after a warm-up, robust lines are fitted to them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kowalski.archive import names
from kowalski.archive.client import system_database
from kowalski.broker import stream
from kowalski.broker.kafka import client_config
from kowalski.broker.lag import consumer_lag
from kowalski.science.coordinates import Floats
from kowalski.surveys.base import Survey
from kowalski.testing.faults import night, stage
from kowalski.testing.faults.night import Sender

MB_PER_MINUTE = 1.0
FILES_PER_MINUTE = 0.5
"""Slopes up to which memory and open files count as flat."""
FLAPS = (({"status": 503},), ({"drop": True, "probability": 0.3},), ({"delay": 2.0},), ())
"""What SkyPortal does in turn; the last: it works."""
DRAIN_SECONDS = 300.0


@dataclass(slots=True)
class Series:
    """Samples of one process: minutes since the start, MB, open files."""

    minutes: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def slopes(self, warm_up: float) -> tuple[float, float]:
        """MB and open files per minute after the warm-up."""
        at = np.array(self.minutes)
        late = at >= warm_up
        return slope(at[late], np.array(self.memory)[late]), slope(at[late], np.array(self.files, float)[late])


def slope(x: Floats, y: Floats) -> float:
    """Fit a line by the median slope between all pairs (Theil 1950, Sen 1968): a few steps or spikes don't tilt it."""
    one, other = np.triu_indices(x.size, 1)
    return float(np.median((y[other] - y[one]) / (x[other] - x[one])))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long alerts flow (default: 60)")
    parser.add_argument("--warm-up", type=float, help="minutes that are not fitted (default: a third)")
    parser.add_argument("--rate", type=float, help="alerts per second (default: half the drain rate, measured first)")
    parser.add_argument("--n", type=int, default=2000, help="alerts that are drained to find that rate")
    parser.add_argument("--passes", type=float, default=0.02, help="part of the alerts that pass (default: 0.02)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--flap", type=float, default=20.0, help="seconds that SkyPortal stays as it is")
    parser.add_argument("--picture", type=Path, help="draw the series into this file (needs matplotlib)")
    options = parser.parse_args()
    options.warm_up = options.minutes / 3 if options.warm_up is None else options.warm_up
    return options


def lag(own: stage.Stage) -> int:
    """Alerts that Kafka still holds for the brokers."""
    return sum(sum(consumer_lag(own.settings, survey).values()) for survey in own.surveys)


def forget_soon(own: stage.Stage) -> None:
    """Have Kafka delete what is older than some minutes: an hour of alerts takes tens of GB."""
    topic = own.surveys[0].topic_of(night.FIRST_NIGHT)
    stream.ensure_topic(own.settings, topic)
    wanted = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in (("retention.bytes", "1000000000"), ("segment.bytes", "100000000"))
    ]
    changes = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=wanted)]
    admin = AdminClient(client_config(own.settings))
    for answer in admin.incremental_alter_configs(changes).values():
        answer.result(30)


def drain_rate(own: stage.Stage, folder: Path, count: int) -> float:
    """Put alerts into Kafka at once, and see how fast they go."""
    survey = own.surveys[0]
    places = night.make(survey, folder, count, 1, night.FIRST_NIGHT, set())
    own.put_sources([places])
    begun = time.monotonic()
    sender = Sender(own.settings, survey, night.FIRST_NIGHT, sorted(folder.glob("*.avro")), 1e6)
    sender.start()
    sender.join()
    while lag(own):
        time.sleep(0.2)
    return count / (time.monotonic() - begun)


def flow(own: stage.Stage, folder: Path, survey: Survey, rate: float, minutes: float) -> int:
    """Send alerts at a pace until the time is over, and count them; those of each minute are of another night.

    The alerts of a minute are made while those of the minute before are sent.
    """
    taken: set[int] = set()
    end = time.monotonic() + 60 * minutes
    before: tuple[Sender, Path] | None = None
    number = 0
    while (left := end - time.monotonic()) > 0:
        number += 1
        when = night.FIRST_NIGHT + timedelta(days=number)
        packets = folder / str(number)
        count = max(1, int(rate * min(60.0, left)))
        own.put_sources([night.make(survey, packets, count, 1000 + number, when, taken)])
        _end(before)
        sender = Sender(own.settings, survey, night.FIRST_NIGHT, sorted(packets.glob("*.avro")), rate)
        sender.start()
        before = sender, packets
    _end(before)
    return len(taken)


def _end(before: tuple[Sender, Path] | None) -> None:
    """Wait until all alerts of a minute are sent, and take away their files."""
    if before is not None:
        sender, packets = before
        sender.join()
        shutil.rmtree(packets)


def sample(own: stage.Stage, series: dict[str, Series], minutes: float) -> None:
    """Look at every process once; the API's workers count with their parent."""
    for process in own.processes():
        family = psutil.Process(process.pid)
        members = [family, *family.children(recursive=True)]
        one = series[process.name]
        one.minutes.append(minutes)
        one.memory.append(sum(member.memory_info().rss for member in members) / 2**20)
        one.files.append(sum(member.num_fds() for member in members))


def watch(own: stage.Stage, options: argparse.Namespace, series: dict[str, Series], ended: threading.Event) -> None:
    """Sample, and let SkyPortal flap, until all is over."""
    begun, turn, flapped = time.monotonic(), 0, 0.0
    while not ended.wait(options.every):
        now = time.monotonic()
        if now - flapped > options.flap:
            own.portal.fail(*FLAPS[turn % len(FLAPS)])
            turn, flapped = turn + 1, now
        sample(own, series, (now - begun) / 60)
    own.portal.fail()


def report(series: dict[str, Series], warm_up: float) -> bool:
    """Print what was found of each process; whether all of it is flat."""
    print("\n| process | samples | MB at the end | MB/min | files at the end | files/min | |")
    print("|---|---:|---:|---:|---:|---:|---|")
    flat = True
    for name, one in sorted(series.items()):
        memory, files = one.slopes(warm_up)
        good = memory < MB_PER_MINUTE and files < FILES_PER_MINUTE
        flat &= good
        verdict = "flat" if good else "GROWS"
        print(
            f"| {name} | {len(one.minutes)} | {one.memory[-1]:.0f} | {memory:+.2f} | {one.files[-1]} | {files:+.2f} "
            f"| {verdict} |"
        )
    return flat


def draw(series: dict[str, Series], path: Path) -> None:
    """Draw memory over time."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name, one in sorted(series.items()):
        axes.plot(one.minutes, one.memory, label=name)
    axes.set(xlabel="minutes", ylabel="resident memory [MB]", yscale="log")
    axes.legend(ncols=3, fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> int:
    """Run it; 1 if something grows or is left over."""
    options = arguments()
    series: dict[str, Series] = defaultdict(Series)
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="kowalski-soak-") as name:
        folder = Path(name)
        every = round(1 / options.passes)
        with stage.running(folder, stage.choose([])[:1], disk_mb=0, cuts=False, every=every) as own:
            forget_soon(own)
            rate = options.rate or 0.5 * drain_rate(own, folder / "drain", options.n)
            print(
                f"{rate:.0f} alerts/s for {options.minutes:g} minutes, of which one in {every} passes; "
                f"SkyPortal changes every {options.flap:g} s"
            )
            watcher = threading.Thread(target=watch, args=(own, options, series, ended))
            watcher.start()
            begun = time.monotonic()
            sent = flow(own, folder / "flow", own.surveys[0], rate, options.minutes)
            ended.set()
            print(f"{sent} alerts in {(time.monotonic() - begun) / 60:.1f} minutes")
            watcher.join()
            outbox = system_database(own.client, own.settings)[names.OUTBOX]
            deadline = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < deadline and (lag(own) or outbox.count_documents({"state": "pending"})):
                time.sleep(1)
            states = {state: outbox.count_documents({"state": state}) for state in ("delivered", "pending", "failed")}
            behind = lag(own)
    flat = report(series, options.warm_up)
    print(f"\noutbox: {states}; alerts left in Kafka: {behind}")
    if options.picture is not None:
        draw(series, options.picture)
    good = flat and not behind and not states["pending"] and not states["failed"]
    print("all flat, nothing left over" if good else "NOT as it should be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
