"""CPU seconds and memory of processes, and a yardstick for the machine they ran on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple

import numpy as np
import psutil


def calibrate() -> float:
    """Time a fixed piece of work (Python and numpy on one core), in CPU seconds; about 1 on a 2024 server core."""
    start = time.process_time()
    rng = np.random.default_rng(0)
    for _ in range(12):
        matrix = rng.standard_normal((512, 512))
        np.linalg.svd(matrix)
        sum(i * i % 7 for i in range(200_000))
    return time.process_time() - start


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since a process started, and its peak resident memory in MB, both with its children."""

    cpu: float
    rss: float


def usage(processes: Mapping[str, int]) -> dict[str, Usage]:
    """Read the usage of processes by name and pid."""
    return {name: _of(psutil.Process(pid)) for name, pid in processes.items()}


def _of(process: psutil.Process) -> Usage:
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    return Usage(sum(t.user + t.system for t in times), sum(_peak(member.pid) for member in family))


class Resident(NamedTuple):
    """Memory of a process that is in use now, in MB: all of it, and with what it shares divided among those sharing."""

    whole: float
    share: float


def resident(process: psutil.Process) -> dict[int, Resident]:
    """Read the memory of a process and all its children, by pid; those that end meanwhile have none."""
    found: dict[int, Resident] = {}
    with suppress(psutil.NoSuchProcess):
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                info = member.memory_full_info()
                found[member.pid] = Resident(info.rss / 1e6, info.pss / 1e6)
    return found


def _peak(pid: int) -> float:
    """Peak resident memory in MB, as Linux counts it."""
    with open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")), 0.0)


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """CPU seconds between two readings, by process."""
    return {name: used.cpu - before[name].cpu for name, used in after.items()}


def machine() -> str:
    """Name the kind of processor, and how many of its cores there are."""
    with open("/proc/cpuinfo") as known:
        models = [line.split(":", 1)[1].strip() for line in known if line.startswith("model name")]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    packages = ("dask", "distributed", "pymongo", "confluent-kafka", "onnxruntime", "numpy", "cavro")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
