"""A short campaign of faults on a whole instance, and that its checker finds what is wrong."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from rich.console import Console

from kowalski.archive import names
from kowalski.archive.client import data_database, system_database
from kowalski.config import Settings
from kowalski.surveys.base import Alert, Survey
from kowalski.testing import services
from kowalski.testing.faults import campaign, checker, kinds, night, report, stage
from kowalski.testing.faults.shim import Shim

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KINDS = (
    *(f"kill -9 {program}" for program in kinds.PROGRAMS),
    "SIGSTOP broker",
    "SIGSTOP worker",
    *(f"cut {way}" for way in kinds.WAYS),
    *(f"clock jump {program}" for program in ("broker", "worker", "courier")),
    "clock jump of all",
    "file-size limit",
    "mongod steps down",
    "partition added",
    "topic of the next night",
)
SEED = 7
Content = dict[str, dict[int, Alert]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("campaign")


@pytest.fixture(scope="module")
def own(place: Path) -> Iterator[stage.Stage]:
    with stage.running(place, stage.choose([]), disk_mb=0) as found:
        yield found


@pytest.fixture(scope="module")
def content(own: stage.Stage, done: campaign.Round) -> Content:
    return checker.kafka_content(own.settings.kafka.servers, own.surveys)


@pytest.fixture(scope="module")
def done(own: stage.Stage, place: Path) -> campaign.Round:
    plan = campaign.Plan(len(KINDS), len(KINDS), pause=0.6, stop_seconds=2.0, seed=SEED, rate=15.0, kinds=KINDS)
    (only,) = campaign.play(plan, own, place, lambda done: print(campaign.sentence(done)))
    return only


def test_every_fault_strikes_and_heals(done: campaign.Round) -> None:
    struck = [fault.kind for fault in done.faults]
    assert len(struck) == len(KINDS)
    assert len(set(struck)) > len(KINDS) - 4  # one that is impossible for long gives way to another
    assert [fault.kind for fault in done.faults if fault.healed is None] == []
    assert done.drained_after is not None


def test_nothing_is_lost_half_done_or_doubled(done: campaign.Round) -> None:
    assert done.findings.alerts > 300
    assert done.findings.passes > 15
    assert done.findings.lost == []
    assert done.findings.half_done == []
    assert done.findings.doubled == []


def test_the_checker_finds_what_is_wrong(own: stage.Stage, content: Content) -> None:
    """It damages the archive in every way that the checker looks for, and looks again."""
    data, system = data_database(own.client, own.settings), system_database(own.client, own.settings)
    survey = own.surveys[0]
    alerts, objects = data[survey.alerts], data[survey.objects]
    lost, unscored = [found["_id"] for found in alerts.find({"classifications.trial": {"$exists": True}}).limit(2)]
    alerts.delete_one({"_id": lost})
    alerts.update_one({"_id": unscored}, {"$set": {"classifications": {}}})
    with_history = objects.find({"prv_candidates.0": {"$exists": True}}).limit(3)
    shortened, doubled, unmatched = [found["_id"] for found in with_history]
    objects.update_one({"_id": shortened}, {"$pop": {"prv_candidates": 1}})
    rows = objects.find_one({"_id": doubled})["prv_candidates"]  # type: ignore[index]
    objects.update_one({"_id": doubled}, {"$push": {"prv_candidates": rows[0]}})
    objects.update_one({"_id": unmatched}, {"$set": {"cross_matches": {}}})
    passed = system[names.OUTBOX].find_one({"_id.survey": survey.name})
    assert passed is not None
    system[names.OUTBOX].update_one({"_id": passed["_id"]}, {"$set": {"state": "failed"}})
    found = checker.check(content, own.surveys, data, system, own.portal.state(), own.filters)
    assert found.lost == [f"{survey.name} {lost}: not stored"]
    wrong = [f"{survey.name} {name}:" for name in (unscored, shortened, unmatched, passed["_id"]["candid"])]
    assert all(any(text.startswith(each) for text in found.half_done) for each in wrong)
    assert len(found.half_done) == len(wrong)
    assert [text.partition(":")[0] for text in found.doubled] == [f"{survey.name} {doubled}"]


def test_the_checker_counts_passes_at_skyportal(own: stage.Stage, content: Content) -> None:
    data, system = data_database(own.client, own.settings), system_database(own.client, own.settings)
    portal = own.portal.state()
    twice, never = portal["candidates"][0], portal["candidates"][-1]
    portal["candidates"] = [*portal["candidates"][:-1], twice]
    found = checker.check(content, own.surveys, data, system, portal, own.filters)
    assert any(f"{twice['passing_alert_id']}: at SkyPortal 2 times" in text for text in found.doubled)
    assert any(f"{never['passing_alert_id']}: its pass never reached SkyPortal" in text for text in found.lost)


POISON = 100


def filter_that_takes_too_long(own: stage.Stage, sick: Survey) -> None:
    added = {
        "$reduce": {"input": {"$range": [0, 3_000_000]}, "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}
    }
    own.add_filter(sick, 500, [{"$match": {"$expr": {"$gt": [added, 0]}}}])


def skyportal_down(own: stage.Stage, sick: Survey) -> None:
    own.portal.fail({"status": 503})


def partition_of_poison(own: stage.Stage, sick: Survey) -> None:
    producer = Producer({"bootstrap.servers": own.settings.kafka.servers})
    for number in range(POISON):
        producer.produce(sick.topic_of(NIGHTS[partition_of_poison]), b"poison %d" % number, partition=0)
    assert producer.flush(60) == 0


def catalog_without_index(own: stage.Stage, sick: Survey) -> None:
    data_database(own.client, own.settings)[checker.CATALOG].drop_indexes()


Trouble = Callable[[stage.Stage, Survey], None]
TROUBLES: tuple[Trouble, ...] = (
    filter_that_takes_too_long,
    skyportal_down,
    catalog_without_index,
    partition_of_poison,  # its dead letters stay
)
NIGHTS = {trouble: date(2025, 1, 1 + number) for number, trouble in enumerate(TROUBLES)}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_no_survey_suffers_from_anothers_trouble(own: stage.Stage, place: Path, trouble: Trouble) -> None:
    """The last ones: they leave dead letters."""
    sick, well = own.surveys[:2]
    data, system = data_database(own.client, own.settings), system_database(own.client, own.settings)
    senders, sent = [], {}
    for survey in (sick, well):
        folder, taken = place / f"{trouble.__name__}-{survey.name}", set[int]()
        night.make(survey, folder, 40, 900 + TROUBLES.index(trouble), NIGHTS[trouble], taken)
        senders.append(night.Sender(own.settings, survey, NIGHTS[trouble], sorted(folder.glob("*.avro")), 40.0))
        sent[survey.name] = taken
    trouble(own, sick)
    try:
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        for survey in (well, sick):
            mine = {"_id": {"$in": list(sent[survey.name])}}
            stored = partial(data[survey.alerts].count_documents, mine)
            own.instance.wait(lambda: stored() == len(sent[survey.name]), "alerts are missing")  # noqa: B023
    finally:
        own.portal.fail()
    passed = [{"survey": well.name, "candid": candid} for candid in sent[well.name] if checker.passes(candid)]
    own.instance.wait(
        lambda: system[names.OUTBOX].count_documents({"_id": {"$in": passed}}) == len(passed), "passes are missing"
    )
    assert passed
    assert system[names.DEAD_LETTERS].count_documents({"survey": well.name}) == 0
    refused = partial(system[names.DEAD_LETTERS].count_documents, {"survey": sick.name})
    own.instance.wait(
        lambda: refused() == (POISON if trouble is partition_of_poison else 0), "dead letters are not what they must be"
    )


def test_a_report_grows_and_sums_up(tmp_path: Path) -> None:
    def a_round(number: int, *lost: str, heal: float | None = 2.0) -> campaign.Round:
        fault = kinds.Fault("kill -9 worker", ("worker",), over=100.0, healed=None if heal is None else 100.0 + heal)
        return campaign.Round(number, [fault], 10.0, 5.0, checker.Findings(10, 1, lost=list(lost)))

    path = tmp_path / "faults.jsonl"
    first, second = report.Report(path, 1), report.Report(path, 2)
    wrong = "A 1: not stored"
    for one in (a_round(0), a_round(1, wrong, heal=4.0), a_round(2, wrong)):
        first.add(one)
    second.add(a_round(0, heal=None))
    lines = report.read(path)
    assert [line["seed"] for line in lines] == [1, 1, 1, 2]
    row = report.rows(lines)["kill -9 worker"]
    assert (row.heals, row.rounds, row.lost) == ([2.0, 4.0, 2.0, None], 4, 1)
    assert not report.is_clean(lines)
    assert report.is_clean(lines[:1])
    assert "| all | 4 | 4 | 1 | 0 | 0 | 1 |" in report.markdown(lines)
    drawn = io.StringIO()
    Console(file=drawn, width=160).print(report.table(lines, "faults"))
    assert "kill -9 worker" in drawn.getvalue()


def test_a_night_ends_only_while_there_are_alerts_for_the_next(tmp_path: Path) -> None:
    """Else a topic would be waited for that never appears."""

    def sender(packets: int) -> night.Sender:
        return night.Sender(Settings(), stage.choose([])[0], date(2025, 3, 1), [tmp_path] * packets, 2.0)

    assert not sender(8).may_change  # they may all be on their way
    long = sender(9)
    assert long.may_change
    assert long.next_night() == long.topic
    assert "20250302" in long.topic
    assert not long.may_change  # nothing has gone there yet


def test_what_needs_a_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="C compiler"):
        Shim(tmp_path / "shim")
    bare: Any = SimpleNamespace(disk=None, shim=None)
    without = kinds.impossible(bare)
    assert {"clock jump of all", "clock jump mongod", "cut programs - Kafka", "full disk"} < without.keys()
    deck = campaign.Deck((), Random(1), without)
    assert without.keys().isdisjoint(deck._cards)
    assert set(kinds.all_kinds()) == without.keys() | set(deck._cards)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_clock_jumps_and_a_connection_goes_through_a_proxy(tmp_path: Path) -> None:
    """A process's own clock, and those of all; waits last as long as before."""
    shim = Shim(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, elsewhere = server.getsockname()[1], services.free_ports(1)[0]
        code = f"""
import socket, threading, time
def tell(): print(round(time.time()), flush=True)
tell(); input(); tell(); input(); tell()
time.sleep(0.05)
threading.Event().wait(0.05)
tell()
socket.create_connection(("127.0.0.1", {elsewhere}))"""
        child = subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            env=os.environ | shim.environment({elsewhere: port}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        told = [int(child.stdout.readline())]
        assert shim.has_clock(child.pid)
        for process, seconds in ((child.pid, -86_400), (None, 3600)):
            shim.set_clock(process, seconds)
            child.stdin.write("\n")
            child.stdin.flush()
            told.append(int(child.stdout.readline()))
        told.append(int(child.stdout.readline()))
        server.settimeout(60)
        server.accept()[0].close()
        child.communicate(timeout=60)
    assert child.returncode == 0
    jumps = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert [round(seconds / 3600) for seconds in jumps] == [-24, 1, 0]


def test_equal_seeds_deal_equal_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    def deal(seed: int) -> list[str]:
        scene: Any = kinds.Scene(None, (), Random(seed), 1.0)  # type: ignore[arg-type]
        deck = campaign.Deck((), scene.dice)
        return [deck.deal(scene).kind for _ in range(30)]

    def make(name: str) -> kinds.Kind:
        return lambda _: kinds.Fault(name, (), 0.0)

    made = {name: (weight, make(name)) for weight, name in enumerate("abcdef", 1)}
    monkeypatch.setattr(kinds, "all_kinds", lambda: made)
    assert deal(1) == deal(1) != deal(2)
    assert Counter(deal(3)[:21]) == {name: weight for name, (weight, _) in made.items()}
