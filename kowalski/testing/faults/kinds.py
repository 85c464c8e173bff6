"""What can go wrong: each kind of fault, how it is done, and how its cause is taken away again.

A kind is a function of the `Scene` that does it and says what to look at afterwards, or gives None where it is
impossible just now: a process that is being started can't be killed.
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from pymongo.errors import PyMongoError

from kowalski.archive import reports
from kowalski.archive.client import Role, connect, system_database
from kowalski.runtime.programs import broker_name
from kowalski.testing.faults.night import Sender
from kowalski.testing.faults.stage import Stage

DISK_SECONDS = 3.0
CUT_SECONDS = 4.0
JUMP_SECONDS = 5.0
JUMPS = (3600, -3600, 86_400, -86_400)
STEP_DOWN_SECONDS = 2
SPARE = 512 * 1024
"""What a process may still write under a file-size limit, bytes."""
KAFKA_SECONDS = 5.0


@dataclass(slots=True)
class Fault:
    """One fault that has happened.

    Attributes
    ----------
    kind
        Its kind, as reports name it.
    services
        Programs that must work again.
    over
        When its cause is gone (seconds since 1970).
    relief
        Takes its cause away; None where the fault is a moment's.
    gone
        The process that was killed: it must not be the one that works.
    works
        A further condition for being healed.
    healed
        When everything worked again; None: not yet.
    """

    kind: str
    services: tuple[str, ...]
    over: float
    relief: Callable[[], None] | None = None
    gone: int | None = None
    works: Callable[[], bool] | None = None
    healed: float | None = None


@dataclass(slots=True)
class Scene:
    """Where a fault strikes.

    Attributes
    ----------
    senders
        What is sending alerts.
    dice
        Decides; equal seeds draw equal faults.
    stop_seconds
        How long SIGSTOP lasts.
    busy
        Kinds that are in force and can't happen twice at once.
    """

    stage: Stage
    senders: Sequence[Sender]
    dice: Random
    stop_seconds: float
    busy: set[str] = field(default_factory=set)


Kind = Callable[[Scene], Fault | None]


def kill(scene: Scene, program: str) -> Fault | None:
    """Kill one process of a program, as a crash or the kernel's out-of-memory killer does."""
    victim = _victim(scene, program)
    if victim is None:
        return None
    name, process = victim
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return None
    return Fault(f"kill -9 {program}", (name,), time.time(), gone=process.pid)


def stop(scene: Scene, program: str) -> Fault | None:
    """Hold one process of a program (SIGSTOP) for a while: it neither answers nor ends."""
    victim = _victim(scene, program)
    if victim is None:
        return None
    name, process = victim
    try:
        process.suspend()
    except psutil.NoSuchProcess:
        return None

    def resume() -> None:
        try:
            process.resume()
        except psutil.NoSuchProcess:
            return  # it was killed meanwhile

    return Fault(f"SIGSTOP {program}", (name,), time.time() + scene.stop_seconds, resume)


def _victim(scene: Scene, program: str) -> tuple[str, psutil.Process] | None:
    """Draw a process of a program; ``broker`` stands for all brokers."""
    running = [one for one in scene.stage.processes() if one.program.partition("-")[0] == program]
    if not running:
        return None
    chosen = scene.dice.choice(running)
    try:
        return chosen.program, psutil.Process(chosen.pid)
    except psutil.NoSuchProcess:
        return None


def kill_supervisor(scene: Scene) -> Fault | None:
    """Kill the supervisor; what it looked after goes on without it until somebody calls ``up``."""
    process = scene.stage.supervisor.process()
    if process is None:
        return None
    process.kill()
    return Fault("kill -9 supervisor", ("api", "mongod", "kafka"), time.time(), scene.stage.up, gone=process.pid)


def fill_disk(scene: Scene) -> Fault | None:
    """Fill the file system on which the instance has everything: MongoDB, Kafka, spool and logs."""
    disk = scene.stage.disk
    if disk is None or scene.stage.supervisor.process() is None:
        return None
    path = disk / "filling"
    with path.open("wb") as file:
        try:
            left = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
            while file.write(bytes(65536)):
                file.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    brokers = tuple(broker_name(survey.name) for survey in scene.stage.surveys)
    return Fault("full disk", ("mongod", "kafka", *brokers), time.time() + DISK_SECONDS, path.unlink)


def limit_files(scene: Scene) -> Fault | None:
    """Let a broker write no file of more than nothing: its spool is as good as full."""
    victim = _victim(scene, "broker")
    if victim is None:
        return None
    name, process = victim
    try:
        before = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (SPARE, before[1]))
    except psutil.NoSuchProcess:
        return None

    def lift() -> None:
        try:
            process.rlimit(resource.RLIMIT_FSIZE, before)
        except psutil.NoSuchProcess:
            return  # it was killed meanwhile; the next one has no limit

    return Fault("file-size limit", (name,), time.time() + DISK_SECONDS, lift)


def cut(scene: Scene, way: str) -> Fault | None:
    """Let nothing through between two processes for a while."""
    proxy = scene.stage.ways.get(way)
    if proxy is None:
        return None
    proxy.cut()
    brokers = tuple(broker_name(survey.name) for survey in scene.stage.surveys)
    services = {WAYS[0]: ("courier",), WAYS[2]: (*brokers, "courier", "worker", "api")}.get(way, brokers)
    close = scene.dice.random() < 0.5  # after a short cut TCP goes on, after a long one connections are gone
    return Fault(f"cut {way}", services, time.time() + CUT_SECONDS, partial(proxy.mend, close=close))


def jump(scene: Scene, program: str) -> Fault | None:
    """Let the clock of one process be wrong for a while, by as much as time zones and dates are mistaken."""
    victim, shim = _victim(scene, program), scene.stage.shim
    seconds = scene.dice.choice(JUMPS)
    if victim is None or shim is None or not shim.has_clock(victim[1].pid):
        return None
    name, process = victim
    shim.set_clock(process.pid, seconds)
    return Fault(f"clock jump {program}", (name,), time.time() + JUMP_SECONDS, partial(shim.set_clock, process.pid, 0))


def jump_all(scene: Scene) -> Fault | None:
    """Let the clock of everybody but MongoDB be wrong for a while: of our programs, Kafka and the supervisor."""
    shim = scene.stage.shim
    seconds = scene.dice.choice(JUMPS)
    if shim is None:
        return None
    shim.set_clock(None, seconds)
    programs = tuple(dict.fromkeys(process.program for process in scene.stage.processes()))
    return Fault("clock jump of all", programs, time.time() + JUMP_SECONDS, partial(shim.set_clock, None, 0))


def step_down(scene: Scene) -> Fault | None:
    """Have MongoDB's primary step down: for some seconds nobody takes writes, and every connection is cut."""
    settings = scene.stage.settings
    try:
        with connect(settings, Role.ADMIN, serverSelectionTimeoutMS=500, socketTimeoutMS=3000) as admin:
            admin.admin.command("replSetStepDown", STEP_DOWN_SECONDS, force=True)
    except PyMongoError:
        return None  # it is away already
    return Fault("mongod steps down", ("mongod",), time.time() + STEP_DOWN_SECONDS)


def add_partition(scene: Scene) -> Fault | None:
    """Give a topic that is being written and read one more partition."""
    sender = scene.dice.choice(list(scene.senders))
    admin = AdminClient({"bootstrap.servers": scene.stage.settings.kafka.servers, "log_level": 0})
    try:
        known = admin.list_topics(timeout=1.0).topics.get(sender.topic)
        if known is None:
            return None
        count = len(known.partitions) + 1
        admin.create_partitions([NewPartitions(sender.topic, count)], operation_timeout=KAFKA_SECONDS)[
            sender.topic
        ].result(KAFKA_SECONDS)
    except KafkaException:
        return None  # it is away already
    return Fault("partition added", (broker_name(sender.survey.name),), time.time())


def next_night(scene: Scene) -> Fault | None:
    """Have a survey's alerts go on in a topic that did not exist before, as at midnight UTC."""
    waiting = [sender for sender in scene.senders if sender.may_change]
    if not waiting:
        return None
    sender = scene.dice.choice(waiting)
    topic, stage = sender.next_night(), scene.stage

    def is_read() -> bool:
        try:
            with connect(stage.settings, serverSelectionTimeoutMS=1000) as client:
                found = reports.read(system_database(client, stage.settings), f"broker:{sender.survey.name}")
        except PyMongoError:
            return False
        return bool(found) and topic in found[0]["topics"]

    return Fault("topic of the next night", (broker_name(sender.survey.name),), time.time(), works=is_read)


PROGRAMS = {"mongod": 2, "kafka": 2, "scheduler": 3, "worker": 6, "broker": 6, "courier": 4, "api": 2}
"""Programs that are killed and stopped, and how often in comparison."""
WAYS = ("courier - SkyPortal", "brokers - scheduler", "programs - MongoDB", "programs - Kafka")


def all_kinds() -> dict[str, tuple[int, Kind]]:
    """Give every kind by its name, with a weight: how often it is drawn in comparison."""
    kinds: dict[str, tuple[int, Kind]] = {}
    for program, weight in PROGRAMS.items():
        kinds[f"kill -9 {program}"] = (2 * weight, partial(kill, program=program))
        kinds[f"SIGSTOP {program}"] = (weight, partial(stop, program=program))
        kinds[f"clock jump {program}"] = (max(1, weight // 2), partial(jump, program=program))
    for way in WAYS:
        kinds[f"cut {way}"] = (3, partial(cut, way=way))
    kinds |= {
        "clock jump of all": (3, jump_all),
        "kill -9 supervisor": (1, kill_supervisor),
        "full disk": (2, fill_disk),
        "file-size limit": (3, limit_files),
        "mongod steps down": (4, step_down),
        "partition added": (3, add_partition),
        "topic of the next night": (3, next_night),
    }
    return kinds


def impossible(stage: Stage) -> dict[str, str]:
    """Give the kinds that are impossible here, and why."""
    found = {"clock jump mongod": "a mongod whose clock is set back takes no writes until somebody restarts it"}
    if stage.disk is None:
        found["full disk"] = "no file system may be mounted, or none is wanted"
    if stage.shim is None:
        cuts = {f"cut {way}" for way in WAYS[2:]}
        needy = [name for name in all_kinds() if name.startswith("clock jump") or name in cuts]
        found |= dict.fromkeys(needy, "there is no C compiler for what it needs")
    return found
