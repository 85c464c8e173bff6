"""The programs of an instance: what runs, with which command, in which order.

A part that runs elsewhere (``database.uri``, ``kafka.bootstrap.servers``, ``dask.scheduler_address``) has none here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kowalski.config import PROJECT, Settings
from kowalski.garbage import ARROW_MEMORY
from kowalski.runtime import kafka, mongod
from kowalski.runtime.jars import Progress

SEEN = "KOWALSKI_SETTINGS_SEEN"
"""Variable of each program that changes with the settings it reads, so that `up` restarts what a change touches."""

WORKER = "worker"

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
"""One process per core is how work is spread; libraries that start threads of their own would only get in the way."""

WORKER_MEMORY = {
    # Batches make and free arrays of megabytes all the time: giving them back to the kernel each time costs CPU
    # (0.1-0.3 ms per alert were measured), and arenas per thread only hold memory. 32 MB is the largest value allowed.
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024 * 1024),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "2",
    **ARROW_MEMORY,
}
DASK = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",  # it samples stacks a hundred times a second
    "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False",  # the scheduler's queue hands out batches one by one
    # A second one would be stuck behind a batch that takes long while another worker has nothing to do.
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "['kowalski.runtime.scheduler_guard']",
    # The broker finds out itself which packet kills workers: Dask need not lose four of them each time.
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    # Workers hold no results, so there is nothing to spill, and one that paused would stall its batch for good:
    # kowalski.runtime.worker_guard replaces it instead.
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
}
WORKER_OPTIONS = (
    "--death-timeout", "60", "--preload", "kowalski.broker.worker", "--preload", "kowalski.runtime.worker_guard",
)  # fmt: skip
"""Of every worker, wherever it runs."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the supervisor.

    Attributes
    ----------
    name
        As operators know it: ``mongod``, ``kafka``, ``scheduler``, ``worker``, ``api``, ``broker-…``, ``courier``,
        ``watcher-…``.
    command
        The command and its arguments.
    priority
        Programs start in this order and stop in the reverse one.
    environment
        Variables on top of those of the supervisor.
    stop_seconds
        Time to finish after SIGTERM, before SIGKILL.
    copies
        How many processes of it run.
    restart_on_success
        Whether it is started again also after it ended without an error.
    reads_settings
        Whether it is one of ours, which reads the configuration itself.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 30
    copies: int = 1
    restart_on_success: bool = True
    reads_settings: bool = True

    @property
    def numbered(self) -> bool:
        """Whether its processes carry numbers: ``worker-0``, ``worker-1``, …; workers always do, however few."""
        return self.copies > 1 or self.name == WORKER


def plan(settings: Settings, progress: Progress | None = None) -> list[Program]:
    """List the programs of an instance, in the order in which they start.

    Files that MongoDB and Kafka read are written, and Kafka's jars downloaded where they are missing.

    Raises
    ------
    ServiceError
        If MongoDB or Kafka can't run here.
    """
    programs = []
    if settings.database.is_embedded:
        programs.append(_mongod(settings))
    if settings.kafka.is_embedded:
        programs.append(_kafka(settings, progress))
    if settings.dask.is_embedded:
        programs += [scheduler(settings), worker(settings)]
    elif settings.dask.kind != "address":
        programs.append(_cluster(settings))
    programs.append(api(settings))
    programs += [_broker(settings, survey) for survey in settings.enabled_surveys]
    if settings.delivers:
        programs.append(_courier(settings))
    programs += [_watcher(settings, name) for name in settings.watchers.running]
    return programs


def broker_name(survey: str) -> str:
    """Name of the program that reads the alerts of ``survey``."""
    return f"broker-{survey.lower()}"


def watcher_name(name: str) -> str:
    """Name of the program of a watcher."""
    return f"watcher-{name.replace('_', '-')}"


def _mongod(settings: Settings) -> Program:
    database = settings.database
    seen = _fingerprint({"port": database.port, "cache": database.cache_gb, "set": database.replica_set})
    return Program("mongod", tuple(mongod.command(settings)), 10, seen, stop_seconds=60, reads_settings=False)


def _kafka(settings: Settings, progress: Progress | None) -> Program:
    kafka.resolve_jars(progress)
    command, environment = kafka.command(settings)
    seen = _fingerprint(settings.kafka.model_dump(mode="json", exclude={"client", "group"}))
    return Program("kafka", tuple(command), 20, environment | seen, stop_seconds=60, reads_settings=False)


def scheduler(settings: Settings) -> Program:
    """Declare the Dask scheduler."""
    dask = settings.dask
    command = [sys.executable, "-m", "dask", "scheduler", "--host", dask.host, "--port", str(dask.scheduler_port)]
    if dask.dashboard_port is None:
        command.append("--no-dashboard")
    else:
        command += ["--dashboard-address", f"{dask.host}:{dask.dashboard_port}"]
    return Program("scheduler", tuple(command), 30, DASK | ONE_THREAD, stop_seconds=15, reads_settings=False)


def worker(settings: Settings) -> Program:
    """Declare the Dask workers.

    They run without Dask's nannies: the supervisor brings back a worker that died, and a nanny each would cost 70 MB
    and hold the worker to ``MALLOC_TRIM_THRESHOLD_=65536``, which is dear for batches.
    """
    dask = settings.dask
    command = [sys.executable, "-m", "dask", "worker", dask.address, "--no-nanny", "--no-dashboard"]
    command += ["--nthreads", str(dask.threads_per_worker), "--memory-limit", dask.memory_limit]
    command += ["--local-directory", str(settings.path.run / "dask"), *WORKER_OPTIONS]
    if dask.is_embedded:
        command += ["--host", dask.host]
    if dask.lifetime is not None:
        command += ["--lifetime", dask.lifetime]
        command += ["--lifetime-stagger", dask.lifetime_stagger] if dask.lifetime_stagger is not None else []
    environment = DASK | ONE_THREAD | WORKER_MEMORY | _fingerprint(settings.model_dump(mode="json"))
    environment["DASK_LOGGING__KOWALSKI"] = settings.logging.level
    return Program(
        WORKER,
        tuple(command),
        40,
        environment,
        stop_seconds=20,
        copies=dask.workers,
        restart_on_success=dask.lifetime is None or dask.lifetime_restart,
    )


def _cluster(settings: Settings) -> Program:
    command = (sys.executable, "-m", "kowalski.cli", "run", "cluster")
    seen = _fingerprint(settings.model_dump(mode="json"))
    return Program("scheduler", command, 30, DASK | ONE_THREAD | seen, stop_seconds=60)


def api(settings: Settings) -> Program:
    """Declare the HTTP API."""
    server = settings.server
    command = [sys.executable, "-m", "gunicorn", "kowalski.api.app:create_app()", "--bind", bind_address(settings)]
    command += ["--worker-class", "kowalski.api.worker.Worker", "--workers", str(server.processes)]
    command += ["--timeout", str(server.timeout), "--graceful-timeout", "20", "--no-control-socket"]
    if server.max_requests:
        command += ["--max-requests", str(server.max_requests)]
        # so that the processes are not all replaced at the same moment
        command += ["--max-requests-jitter", str(server.max_requests // 10)]
    command += ["--config", "python:kowalski.api.hooks"]
    metrics = {"PROMETHEUS_MULTIPROC_DIR": str(settings.path.run / "metrics" / "api")}
    return Program("api", tuple(command), 50, ONE_THREAD | metrics | _fingerprint(settings.model_dump(mode="json")))


def bind_address(settings: Settings) -> str:
    """Where the API listens, as ``host:port``; an IPv6 address is put in brackets."""
    host = settings.server.host
    return f"[{host}]:{settings.server.port}" if ":" in host else f"{host}:{settings.server.port}"


def _broker(settings: Settings, survey: str) -> Program:
    command = (sys.executable, "-m", "kowalski.cli", "run", "broker", "--survey", survey)
    seen = _fingerprint(settings.model_dump(mode="json"))
    return Program(broker_name(survey), command, 60, ONE_THREAD | seen)


def _courier(settings: Settings) -> Program:
    command = (sys.executable, "-m", "kowalski.cli", "run", "courier")
    return Program("courier", command, 70, ONE_THREAD | _fingerprint(settings.model_dump(mode="json")))


def _watcher(settings: Settings, name: str) -> Program:
    command = (sys.executable, "-m", "kowalski.cli", "watch", name)
    return Program(watcher_name(name), command, 80, ONE_THREAD | _fingerprint(settings.model_dump(mode="json")))


def _fingerprint(seen: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps({"project": str(PROJECT), **seen}, sort_keys=True)
    return {SEEN: hashlib.sha256(text.encode()).hexdigest()[:16]}
