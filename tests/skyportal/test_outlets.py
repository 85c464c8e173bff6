"""Every outlet of the courier keeps the same promises: one class of tests that all of them pass."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from kowalski.archive import names, outbox
from kowalski.broker.batch import Batch, Packet, Work
from kowalski.broker.context import WorkerContext
from kowalski.broker.kafka import client_config
from kowalski.broker.stages.handover import hand_over
from kowalski.config import Settings
from kowalski.config.outlets import Distribution, OutletName
from kowalski.surveys import get
from kowalski.testing import services
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal import Fault

Key = tuple[int, int]
"""Candid and filter."""


class Place:
    """An outlet as its readers see it."""

    name: OutletName

    def __init__(self, settings: Settings, archive: Any) -> None:
        self.settings, self.archive = settings, archive

    @property
    def box(self) -> Any:
        return self.archive.system[names.OUTBOXES[self.name]]

    def states(self) -> dict[int, str]:
        return {each["_id"]["candid"]: each["state"] for each in self.box.find()}

    def all_are(self, *states: str) -> Callable[[], bool]:
        return lambda: set(self.states().values()) <= set(states)

    def arrived(self) -> Counter[Key]:
        """What is there, told apart as readers do."""
        raise NotImplementedError

    def order(self) -> list[int]:
        """Candids in order of arrival, repetitions left out."""
        return list(dict.fromkeys(candid for candid, _ in self.arrived()))

    def go_away(self) -> None:
        raise NotImplementedError

    def come_back(self) -> None:
        raise NotImplementedError

    def refuse_everything(self) -> None:
        raise NotImplementedError


class AtSkyPortal(Place):
    name = "skyportal"

    def __init__(self, settings: Settings, archive: Any, fake: Any) -> None:
        super().__init__(settings, archive)
        self.fake = fake

    def arrived(self) -> Counter[Key]:
        return Counter((each["passing_alert_id"], each["filter_id"]) for each in self.fake.memory.candidates)

    def go_away(self) -> None:
        self.fake.fail(Fault(status=503))

    def come_back(self) -> None:
        self.fake.fail()

    def refuse_everything(self) -> None:
        self.fake.fail(Fault(method="POST|PUT", status=400))


class OnKafka(Place):
    name = "kafka"

    def __init__(self, settings: Settings, archive: Any) -> None:
        super().__init__(settings, archive)
        own = settings.distribution
        own.enabled, own.topic, own.format = True, f"d{uuid.uuid4().hex[:8]}_{{filter_id}}", "json"
        own.backoff_seconds, own.backoff_max_seconds, own.timeout_seconds = 0.05, 0.2, 3.0
        self._port = settings.kafka.port

    def messages(self) -> list[Any]:
        options = {"group.id": uuid.uuid4().hex, "enable.partition.eof": True}
        consumer = Consumer(client_config(self.settings, **options))
        found = []
        try:
            prefix = self.settings.distribution.topic.partition("{")[0]
            topics = {name: t for name, t in consumer.list_topics(timeout=30).topics.items() if name.startswith(prefix)}
            left = {(name, number) for name, topic in topics.items() for number in topic.partitions}
            consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name, number in left])
            while left:
                message = consumer.poll(30)
                assert message is not None, "Kafka does not answer"
                if message.error() is None:
                    found.append(message)
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    left.discard((message.topic(), message.partition()))
        finally:
            consumer.close()
        return found

    def arrived(self) -> Counter[Key]:
        ids = {dict(message.headers())["id"].decode() for message in sorted(self.messages(), key=self._moment)}
        return Counter((int(candid), int(number)) for _, candid, number in (text.split(":") for text in ids))

    def order(self) -> list[int]:
        rows = [json.loads(message.value()) for message in sorted(self.messages(), key=self._moment)]
        return list(dict.fromkeys(row["candid"] for row in rows))

    @staticmethod
    def _moment(message: Any) -> tuple[str, int, int]:
        return message.topic(), message.partition(), message.offset()

    def go_away(self) -> None:
        (self.settings.kafka.port,) = services.free_ports(1)

    def come_back(self) -> None:
        self.settings.kafka.port = self._port

    def refuse_everything(self) -> None:
        self.settings.kafka.client["message.max.bytes"] = 1000  # the smallest that Kafka's client allows


@pytest.fixture(params=["skyportal", "kafka"])
def place(request: pytest.FixtureRequest, settings: Settings, archive: Any, fake: Any, kafka: str) -> Place:
    return AtSkyPortal(settings, archive, fake) if request.param == "skyportal" else OnKafka(settings, archive)


class TestEveryOutlet:
    """What the courier promises of any place that takes passes."""

    async def test_each_pass_arrives_once_and_is_recorded(self, settings: Settings, archive: Any, place: Place) -> None:
        for candid in (1, 2, 3):
            packet = archive.packet(candid, jd=2459000.5 + candid)
            archive.store(packet)
            archive.hand_over_to_kafka(packet, archive.a_pass(1), archive.a_pass(2))
        for _ in range(2):  # a courier that comes later finds nothing to do
            async with running(settings, place.name):
                await until(place.all_are("delivered"))
            assert place.arrived() == {(candid, number): 1 for candid in (1, 2, 3) for number in (1, 2)}

    async def test_an_object_keeps_its_order(self, settings: Settings, archive: Any, place: Place) -> None:
        for candid in (5, 1, 4, 2, 3):
            packet = archive.packet(candid, jd=2459000.5 + candid)
            archive.store(packet)
            archive.hand_over_to_kafka(packet, archive.a_pass(1))
        async with running(settings, place.name):
            await until(place.all_are("delivered"))
        assert place.order() == [1, 2, 3, 4, 5]

    async def test_an_outage_loses_nothing(self, settings: Settings, archive: Any, place: Place) -> None:
        packet = archive.packet(1)
        archive.store(packet)
        archive.hand_over_to_kafka(packet)
        place.go_away()
        async with running(settings, place.name):
            await until(lambda: bool(place.box.find_one({"attempts": {"$gte": 1}})))
        assert place.states() == {1: "pending"}
        place.come_back()
        async with running(settings, place.name):
            await until(place.all_are("delivered"))
        assert place.arrived() == {(1, 1): 1}

    async def test_what_is_refused_fails_with_a_reason_and_can_be_retried(
        self, settings: Settings, archive: Any, place: Place
    ) -> None:
        packet = archive.packet(1)
        archive.store(packet)
        archive.hand_over_to_kafka(packet, archive.a_pass(annotations={"note": os.urandom(2000).hex()}))
        place.refuse_everything()
        async with running(settings, place.name):
            await until(place.all_are("failed"))
        (failed,) = place.box.find()
        assert failed["error"]
        place.come_back()
        settings.kafka.client.clear()
        assert outbox.retry(place.box, [failed["_id"]], datetime.now(UTC)) == 1
        async with running(settings, place.name):
            await until(place.all_are("delivered"))
        assert place.arrived() == {(1, 1): 1}

    async def test_a_killed_courier_is_followed_by_another(
        self, settings: Settings, archive: Any, place: Place, tmp_path: Path
    ) -> None:
        settings.skyportal.enabled = place.name == "skyportal"
        for candid in range(1, 41):
            packet = archive.packet(candid, f"ZTF20aa{candid % 7}", jd=2459000.5 + candid)
            archive.store(packet)
            archive.hand_over_to_kafka(packet)
        command = [sys.executable, "-m", "kowalski.cli", "run", "courier"]
        process = services.Process("courier", command, services.environment(settings), tmp_path / "courier.log")
        try:
            for share in (5, 20, 40):
                process.start()
                await until(lambda share=share: Counter(place.states().values())["delivered"] >= share)  # type: ignore[misc]
                os.kill(process.pid, signal.SIGKILL)
                process.stop()
        finally:
            process.stop()
        assert place.arrived() == {(candid, 1): 1 for candid in range(1, 41)}


@pytest.mark.parametrize("form", ["avro", "json"])
async def test_messages_carry_their_schema_and_only_what_the_filter_may_see(
    settings: Settings, archive: Any, kafka: str, form: Any
) -> None:
    place = OnKafka(settings, archive)
    settings.distribution.format = form
    packet = archive.packet(7, jd=2459000.5)
    hidden, limit = archive.candidate(5, 2458999.5, programid=3), {"jd": 2458990.5, "fid": 2, "diffmaglim": 20.1}
    archive.store(packet, {"prv_candidates": [hidden, limit | {"programid": 1}]})
    archive.hand_over_to_kafka(packet, archive.a_pass(4, annotations={"age": 3.5}))
    async with running(settings, "kafka"):
        await until(place.all_are("delivered"))
    (message,) = place.messages()
    headers = {name: value.decode() for name, value in message.headers()}
    assert (headers["id"], message.key()) == ("ZTF:7:4", b"ZTF20aaelulu")
    schema = json.loads(headers["schema"])
    if form == "avro":
        found: Any = fastavro.schemaless_reader(io.BytesIO(message.value()), fastavro.parse_schema(schema), None)
    else:
        found = json.loads(message.value())
        assert set(schema["properties"]) == set(found)
    assert (found["candid"], found["filter_id"], found["group_id"], found["survey"]) == (7, 4, 1, "ZTF")
    assert json.loads(found["annotations"]) == {"age": 3.5}
    assert [(point["mjd"], point["band"], point["flux"] is None) for point in found["photometry"]] == [
        (58990.0, "ztfr", True),
        (59000.0, "ztfg", False),
    ]


async def test_a_new_topic_loses_nothing_of_what_many_lanes_send_at_once(
    settings: Settings, archive: Any, kafka: str
) -> None:
    """Kafka lets a topic's leader start while the first messages come: what it acknowledges then must be there, too."""
    place, filters, objects = OnKafka(settings, archive), range(1, 31), range(1, 8)
    for candid in objects:
        packet = archive.packet(candid, f"ZTF20aa{candid}")
        archive.store(packet)
        archive.hand_over_to_kafka(packet, *map(archive.a_pass, filters))
    async with running(settings, "kafka"):
        await until(place.all_are("delivered"))
    assert place.arrived() == {(candid, number): 1 for candid in objects for number in filters}


def test_a_filter_says_where_its_passes_go(settings: Settings, archive: Any, kafka: str) -> None:
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    settings.distribution.enabled = True
    survey = get("ZTF")
    context = WorkerContext.open(settings, survey)
    packet = archive.packet(1)
    archive.store(packet)
    work = Work(Packet("t", 0, 0, 0, b""), survey.shape(packet))
    work.passes = [
        archive.a_pass(1),
        archive.a_pass(2, outlets=("kafka",)),
        archive.a_pass(3, outlets=("kafka", "skyportal")),
    ]
    hand_over(Batch(survey, [work]), context)
    found = {name: set(archive.system[box].find_one()["passes"]) for name, box in names.OUTBOXES.items()}
    assert found == {"skyportal": {"1:1", "1:3"}, "kafka": {"1:2", "1:3"}}


@pytest.mark.parametrize("topic", ["all", "{nothing}_{filter_id}", "a b {filter_id}", "{filter_id", "{}"])
def test_a_template_that_makes_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        Distribution(topic=topic)
