"""Real servers for tests, benchmarks and trials: MongoDB, Kafka and Dask on free ports, below one run folder.

Nothing here is a stand-in: the servers are those that ``./kowalski.py up`` starts, with the same configuration, only
smaller. Every process that is started is ended by its own id.

Examples
--------
An instance with its servers, for as long as the block lasts::

    settings = services.new_settings(Path("/tmp/trial"))
    with services.running(settings, mongod=True, kafka=True) as servers:
        ...  # servers.mongod.kill(); servers.mongod.start()

The same with a Dask scheduler and two workers::

    with services.running(settings, mongod=True), services.dask_cluster(settings, workers=2) as cluster:
        Client(cluster.address)

A process of the instance's own, such as a broker, finds these settings through the file that `write_config` makes::

    broker = services.Process("broker", [sys.executable, "-m", "kowalski.broker"], services.environment(settings), log)
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import yaml
from distributed import Client

from kowalski.config import PROJECT, Settings, load
from kowalski.config.secrets import Secrets
from kowalski.runtime import kafka, mongod, programs
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.programs import Program

PATIENCE = 60.0
"""Seconds that a server may take to start or to end before that counts as a failure."""
PORTS = range(15_000, 32_000)
SMALL: dict[str, Any] = {"database": {"cache_gb": 0.25}, "kafka": {"heap": "256m", "partitions": 2}}
"""Servers for a few thousand alerts."""


@dataclass(slots=True)
class Process:
    """A child process that can be started, ended and killed any number of times.

    Attributes
    ----------
    name
        What it is called in errors.
    argv, env
        The command, and variables to add to this process's environment.
    log
        The file that gets what it prints.
    """

    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Id of the running process."""
        if self._child is None:
            raise ServiceError(f"{self.name} was never started")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, in a session of its own so that an interrupt at the terminal leaves the order of ending to us."""
        if self.is_running:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                env={**os.environ, **self.env},
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, patience: float = PATIENCE) -> None:
        """End it in good order; kill it where that takes longer than ``patience`` seconds."""
        self._end(signal.SIGTERM, patience)

    def kill(self) -> None:
        """End it as a crash would, without a chance to tidy up."""
        self._end(signal.SIGKILL, PATIENCE)

    def _end(self, how: signal.Signals, patience: float) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(how)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)  # children that it has left behind

    def check(self) -> None:
        """Raise `ServiceError`, with the end of its log, if it has ended."""
        if not self.is_running:
            tail = self.log.read_text(errors="replace")[-1500:] if self.log.is_file() else ""
            raise ServiceError(f"{self.name} has ended; its log {self.log} closes with: {tail}")


@dataclass(slots=True)
class Servers:
    """What `running` has started."""

    mongod: Process | None = None
    kafka: Process | None = None


@dataclass(slots=True)
class DaskCluster:
    """A scheduler and its workers, each a process of its own."""

    address: str
    scheduler: Process
    workers: list[Process]

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait until every worker process that runs has joined the scheduler; raise `ServiceError` if it doesn't."""
        expected = sum(worker.is_running for worker in self.workers)
        try:
            with Client(self.address, timeout=patience, set_as_default=False) as client:
                client.wait_for_workers(expected, timeout=patience)
        except (OSError, TimeoutError) as error:
            for process in (self.scheduler, *self.workers):
                process.check()
            raise ServiceError(f"Dask's workers have not joined {self.address} within {patience:g} s") from error


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on at the moment, below those that systems give to outgoing connections."""
    found: list[int] = []
    with ExitStack() as stack:  # all are held until the last is found, so that they differ
        for port in SystemRandom().sample(PORTS, len(PORTS)):
            if len(found) == count:
                break
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
    return found


def new_settings(run: Path, **sections: Mapping[str, Any]) -> Settings:
    """Make an instance below folder ``run``, with free ports and secrets of its own.

    Parameters
    ----------
    run
        The run folder; settings are written to ``config.yaml`` in it.
    sections
        What differs from ``config.defaults.yaml`` and from `SMALL`: ``broker={"batch_size": 8}``.
    """
    ports = iter(free_ports(6))
    own: dict[str, dict[str, Any]] = {
        "path": {"run": str(run)},
        "server": {"port": next(ports)},
        "database": {"port": next(ports)},
        "kafka": {"port": next(ports), "controller_port": next(ports)},
        "dask": {"scheduler_port": next(ports), "dashboard_port": None, "n_workers": 1},
    }
    for overlay in (SMALL, sections):
        for name, section in overlay.items():
            own[name] = {**own.get(name, {}), **section}
    run.mkdir(parents=True, exist_ok=True)
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(own))
    Secrets.ensure(run)
    return load(path, environ={}).settings


def write_config(settings: Settings) -> Path:
    """Write ``settings`` where other processes can read them, as ``config.yaml`` of the run folder."""
    path = settings.path.run / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o600)  # it holds passwords
    path.write_text(yaml.safe_dump({"complete": True, **settings.model_dump(mode="json")}))
    return path


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables with which another process of this instance finds ``settings``; writes them first."""
    path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"KOWALSKI_CONFIG": str(write_config(settings)), "PYTHONPATH": os.pathsep.join(path)}


def start_mongod(settings: Settings) -> Process:
    """Start MongoDB and wait until its replica set and accounts are there."""
    process = Process("mongod", mongod.command(settings), {}, settings.path.run / "logs" / "mongod.log")
    process.start()
    try:
        mongod.prepare(settings, PATIENCE)
    except ServiceError:
        process.stop()
        raise
    return process


def start_kafka(settings: Settings) -> Process:
    """Start Kafka and wait until it answers."""
    argv, env = kafka.command(settings)
    process = Process("kafka", argv, env, settings.path.run / "logs" / "kafka.log")
    process.start()
    try:
        kafka.wait_until_up(settings, PATIENCE)
    except ServiceError:
        process.stop()
        raise
    return process


@contextmanager
def running(settings: Settings, *, mongod: bool = False, kafka: bool = False) -> Iterator[Servers]:
    """Run the servers that are asked for, until the block ends.

    Raises
    ------
    ServiceError
        If one can't be started.
    """
    servers = Servers()
    with ExitStack() as stack:
        if mongod:
            servers.mongod = start_mongod(settings)
            stack.callback(servers.mongod.stop)
        if kafka:
            servers.kafka = start_kafka(settings)
            stack.callback(servers.kafka.stop)
        yield servers


@contextmanager
def dask_cluster(settings: Settings, workers: int = 1, preload: str | None = None) -> Iterator[DaskCluster]:
    """Run a Dask scheduler and ``workers`` workers, with the commands of ``up``, until the block ends.

    Workers read these settings from the file that ``KOWALSKI_CONFIG`` names.

    Parameters
    ----------
    settings
        Where the scheduler listens, and what workers read.
    workers
        How many worker processes.
    preload
        A further module that workers load, after those of ``up``.
    """
    own, logs = environment(settings), settings.path.run / "logs"
    further = ["--preload", preload] if preload else []

    def process(program: Program, name: str, *options: str) -> Process:
        return Process(name, [*program.command, *options], {**program.environment, **own}, logs / f"{name}.log")

    worker = programs.worker(settings)
    cluster = DaskCluster(
        settings.dask.address,
        process(programs.scheduler(settings), "scheduler"),
        [process(worker, f"worker-{number}", *further) for number in range(workers)],
    )
    with ExitStack() as stack:
        for each in (cluster.scheduler, *cluster.workers):  # ended in reverse: a worker without scheduler may hang
            each.start()
            stack.callback(each.stop, 10.0)
        cluster.wait()
        yield cluster
