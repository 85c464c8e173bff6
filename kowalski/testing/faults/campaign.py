"""Rounds of a campaign: alerts flow, faults strike, everything heals and drains, and the checker looks at it all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Event, Thread

from confluent_kafka import KafkaException
from pymongo.errors import PyMongoError

from kowalski.archive import names
from kowalski.archive.client import data_database, system_database
from kowalski.broker.lag import consumer_lag
from kowalski.runtime.services import Service, services
from kowalski.surveys.base import Survey
from kowalski.testing.faults import checker, kinds, night, stage
from kowalski.testing.faults.kinds import Fault, Scene
from kowalski.testing.faults.night import Sender

log = logging.getLogger(__name__)

DRAIN_SECONDS = 300.0
"""So long after the last fault everything must be done."""
LOOK_SECONDS = 1.0
NIGHTS = 30
"""Nights that a round may have: the next one begins that much later."""
PATIENCE_SECONDS, DEAL_SECONDS = 10.0, 60.0
"""So long is waited for the last kinds of a deck to be possible, and for any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign does.

    Attributes
    ----------
    faults
        How many, in all rounds together.
    per_round
        How many in one round.
    pause
        Seconds between two faults, on average.
    stop_seconds
        How long a process is held by SIGSTOP.
    seed
        Draws faults and alerts.
    rate
        Alerts per second and survey.
    kinds
        Kinds to draw from; none: all that are possible here.
    """

    faults: int = 100
    per_round: int = 150
    pause: float = 2.0
    stop_seconds: float = 30.0
    seed: int = 1
    rate: float = 8.0
    kinds: tuple[str, ...] = ()


@dataclass(slots=True)
class Round:
    """What has come of one round: its faults, and what the checker found of everything so far."""

    number: int
    faults: list[Fault]
    seconds: float
    drained_after: float | None
    findings: checker.Findings


Tell = Callable[[Round], None]
"""Is given each round when it is over."""


def run(plan: Plan, folder: Path, surveys: Sequence[Survey], tell: Tell, disk_mb: int) -> list[Round]:
    """Run a campaign below ``folder``.

    Returns
    -------
    list
        Its rounds.
    """
    with stage.running(folder, surveys, disk_mb=disk_mb) as own:
        return play(plan, own, folder, tell)


def play(plan: Plan, own: stage.Stage, folder: Path, tell: Tell) -> list[Round]:
    """Run the rounds of a campaign on a stage; packets are written below ``folder``."""
    rounds: list[Round] = []
    dice, taken = Random(plan.seed), dict[str, set[int]]()
    without = kinds.impossible(own)
    for name, reason in without.items():
        log.warning("never: %s: %s", name, reason)
    deck = Deck(plan.kinds, dice, without)
    left = plan.faults
    while left > 0:
        count = min(left, plan.per_round)
        rounds.append(_round(plan, len(rounds), count, own, folder, deck, taken))
        left -= count
        tell(rounds[-1])
    return rounds


class Deck:
    """Kinds in an order that dice decide, each as often as its weight says before it all begins anew.

    Parameters
    ----------
    names
        The kinds to deal, each of weight one; none: all, by their weights.
    without
        Kinds that are not dealt.
    """

    def __init__(self, names: Sequence[str], dice: Random, without: Container[str] = ()) -> None:
        self.dice = dice
        self._kinds = kinds.all_kinds()
        cards = list(names) or [name for name, (weight, _) in self._kinds.items() for _ in range(weight)]
        self._cards = [name for name in cards if name not in without]
        self._left: list[str] = []

    def deal(self, scene: Scene) -> Fault:
        """Have the next fault happen that is possible just now; those that are not come later.

        Raises
        ------
        TimeoutError
            If none is.
        """
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < DEAL_SECONDS:
            if not self._left or waited > PATIENCE_SECONDS:  # none is possible: Kafka may be away for a while
                self._left = self.dice.sample(self._cards, len(self._cards)) + self._left
            name = self._left.pop(0)
            fault = None if name in scene.busy else self._kinds[name][1](scene)
            if fault is not None:
                return fault
            self._left.append(name)
            time.sleep(0.1)
        raise TimeoutError(f"none of {', '.join(sorted(set(self._left)))} is possible")


def sentence(done: Round) -> str:
    """Sum up a round."""
    found = done.findings
    drained = f"{done.drained_after:.0f} s" if done.drained_after is not None else "never"
    return (
        f"round {done.number}: {len(done.faults)} faults; drained after {drained}; {found.alerts} alerts, "
        f"{found.passes} passes: {len(found.lost)} lost, {len(found.half_done)} half done, {len(found.doubled)} doubled"
    )


def _round(
    plan: Plan,
    number: int,
    count: int,
    own: stage.Stage,
    folder: Path,
    deck: Deck,
    taken: dict[str, set[int]],
) -> Round:
    begun = time.monotonic()
    senders = _senders(plan, number, count, own, folder, taken)
    own.instance.wait_until_well()
    for sender in senders:
        sender.start()
    scene = Scene(own, senders, deck.dice, plan.stop_seconds)
    with Healing(own) as healing:
        _strike(plan, count, scene, deck, healing)
        for sender in senders:
            sender.join()
        last = time.monotonic()
        drained = _drain(own, healing)
    findings = check(own)
    after = time.monotonic() - last if drained else None
    return Round(number, healing.faults, time.monotonic() - begun, after, findings)


def _senders(
    plan: Plan, number: int, count: int, own: stage.Stage, folder: Path, taken: dict[str, set[int]]
) -> list[Sender]:
    """Simulate alerts for as long as the faults of a round last, and put a catalog source at each object."""
    first = night.FIRST_NIGHT + timedelta(days=NIGHTS * number)
    each = max(20, int(plan.rate * plan.pause * count))
    senders, places = [], []
    for order, survey in enumerate(own.surveys):
        packets = folder / f"{survey.name}-{number}"
        seed = 1000 * plan.seed + 10 * number + order
        places.append(night.make(survey, packets, each, seed, first, taken.setdefault(survey.name, set())))
        senders.append(Sender(own.settings, survey, first, sorted(packets.glob("*.avro")), plan.rate))
    own.put_sources(places)
    return senders


def _strike(plan: Plan, count: int, scene: Scene, deck: Deck, healing: Healing) -> None:
    """Have so many faults happen, each when its time has come, and take the causes away in time."""
    waiting: list[Fault] = []
    struck = 0
    due = time.time() + plan.pause
    while struck < count or waiting:
        now = time.time()
        for fault in [one for one in waiting if one.over <= now]:
            if fault.kind == "kill -9 supervisor" and any(one.kind.startswith("cut ") for one in waiting):
                continue  # nobody calls `up` before the network is back; nothing else happens while it runs
            waiting.remove(fault)
            scene.busy.discard(fault.kind)
            if fault.relief is not None:
                fault.relief()
            healing.watch(fault)
        if struck < count and now >= due:
            due = now + plan.pause * scene.dice.uniform(0.6, 1.4)
            fault = deck.deal(scene)
            struck += 1
            scene.busy |= {fault.kind} if fault.relief is not None and not fault.kind.startswith("SIGSTOP") else set()
            waiting.append(fault)
        time.sleep(0.05)


class Healing:
    """Looks all the time whether what was struck works again."""

    def __init__(self, own: stage.Stage) -> None:
        self._stage = own
        self.faults: list[Fault] = []
        self._known = {service.name: service for service in services(own.settings)}
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Healing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def open(self) -> list[Fault]:
        """Faults that have not healed yet."""
        return [fault for fault in list(self.faults) if fault.healed is None]

    def watch(self, fault: Fault) -> None:
        """Wait for a fault whose cause is gone."""
        self.faults.append(fault)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            pending = self.open
            if not pending:
                continue
            begun = time.time()
            over: dict[str, float] = {}
            for fault in pending:
                for name in fault.services:
                    over[name] = max(over.get(name, 0.0), fault.over)
            working = {name: self._pids(self._known[name], since) for name, since in over.items()}
            for fault in pending:
                if all(working[name] and fault.gone not in working[name] for name in fault.services) and (
                    fault.works is None or fault.works()
                ):
                    fault.healed = begun

    def _pids(self, service: Service, since: float) -> set[int]:
        """Process ids of a service if it has worked since then, else none."""
        found = [one for one in self._stage.supervisor.processes() if one.program == service.name]
        if not found or any(one.state != "RUNNING" for one in found):
            return set()
        health = service.check(self._stage.settings, max(since, *(one.started for one in found)))
        complete = service.name != "worker" or health.detail.startswith(f"{len(found)} of")
        return {one.pid for one in found} if health.ok and complete else set()


def _drain(own: stage.Stage, healing: Healing) -> bool:
    """Wait until nothing is waiting any more: in Kafka, in the outbox, and of faults that have not healed."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        if not healing.open and _is_empty(own):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _is_empty(own: stage.Stage) -> bool:
    try:
        if any(sum(consumer_lag(own.settings, survey, 5.0).values()) for survey in own.surveys):
            return False
        outbox = system_database(own.client, own.settings)[names.OUTBOX]
        return outbox.count_documents({"state": "pending"}) == 0
    except (KafkaException, PyMongoError):
        return False


def check(own: stage.Stage) -> checker.Findings:
    """Compare all that Kafka holds with what there is of it."""
    content = checker.kafka_content(own.settings.kafka.servers, own.surveys)
    data, system = data_database(own.client, own.settings), system_database(own.client, own.settings)
    return checker.check(content, own.surveys, data, system, own.portal.state(), own.filters)
