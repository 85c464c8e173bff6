"""``reprocess --post``: what passes of stored alerts gets to SkyPortal, and once more what it has lost."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.archive import filters, indexes, names
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.broker.reprocess import Here, Plan, Reprocessing
from kowalski.config import Settings
from kowalski.surveys import get
from kowalski.testing import simulator
from kowalski.testing.courier import running, until

SURVEY = get("ZTF")
EVERYTHING = [{"$match": {"candid": {"$gt": 0}}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]
FOLLOWUP = {"active": True, "allocation_id": 3, "payload": {"observation_type": "IFU", "priority": 1}}
FOLLOWUP |= {"pipeline": [{"$match": {"candidate.magpsf": {"$gt": 0}}}]}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    return settings


def add_filter(system: Any, number: int) -> None:
    version = filters.new_version(json.dumps(EVERYTHING))
    system[names.FILTERS].insert_one({
        "filter_id": number, "group_id": 1, "catalog": SURVEY.alerts, "permissions": [1, 2, 3], "active": True,
        "autosave": {"active": True, "comment": "saved"}, "auto_followup": FOLLOWUP, "update_annotations": False,
        "active_fid": version["fid"], "fv": [version],
    })  # fmt: skip


async def test_old_passes_are_delivered_only_if_that_is_asked_for(
    settings: Settings, mongo: MongoClient[dict[str, Any]], fake: Any
) -> None:
    context = WorkerContext.open(settings, SURVEY)
    indexes.ensure(context.data, settings, SURVEY)
    writer = simulator.writer("ZTF")
    made = [each.packet for each in simulator.packets(4, "ZTF", seed=5, night=date(2024, 3, 1))]
    candids = {packet["candid"] for packet in made}
    packets = [Packet("ztf_20240301_programid1", 0, at, 1, writer.encode(packet)) for at, packet in enumerate(made)]
    add_filter(context.system, 1)
    assert process(packets, context).passes == 4
    outbox = context.system[names.OUTBOX]

    async def deliver() -> None:
        async with running(settings):
            await until(lambda: outbox.count_documents({"state": "pending"}) == 0)

    def again(*, post: bool) -> int:
        plan = Plan(SURVEY, date(2024, 3, 1), date(2024, 3, 2), ("filter",), post)
        run = Reprocessing(settings, plan, context.data, context.system, None)
        for _ in run.run(Here(context)):
            pass
        return run.progress.passes

    def posted() -> set[tuple[int, int]]:
        return {(each["passing_alert_id"], each["filter_id"]) for each in fake.memory.candidates}

    await deliver()
    assert posted() == {(candid, 1) for candid in candids}
    comments, requests = len(fake.memory.comments), len(fake.requests)
    assert requests > 0
    add_filter(context.system, 2)
    assert await asyncio.to_thread(again, post=False) == 8
    assert outbox.count_documents({"state": "pending"}) == 0
    assert posted() == {(candid, 1) for candid in candids}

    lost = next(each for each in fake.memory.candidates if each["filter_id"] == 1)
    fake.memory.candidates.remove(lost)
    fake.memory._candidate_keys.discard((lost["id"], 1, lost["passed_at"]))
    assert await asyncio.to_thread(again, post=True) == 8
    assert outbox.count_documents({"state": "pending"}) == 4
    await deliver()
    assert posted() == {(candid, number) for candid in candids for number in (1, 2)}
    assert len(fake.memory.candidates) == 8, "nothing is there twice"
    assert outbox.count_documents({"state": "delivered"}) == 4
    assert (len(fake.memory.comments), len(fake.requests)) == (comments, requests), "no telescope is asked again"
    context.data.client.close()
