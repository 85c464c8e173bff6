"""Alerts of every survey reach SkyPortal alike: light curve, pictures, instrument and stream of their own."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pymongo import MongoClient

from kowalski import surveys
from kowalski.archive import filters, indexes, names, outbox
from kowalski.broker import pipeline
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.config import Settings
from kowalski.surveys import Survey
from kowalski.testing import simulator
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal.memory import INSTRUMENTS, STREAMS

Record = dict[str, Any]

REAL = [
    ("ZTF", "ztf_alerts/20200202/1127561445515015011.avro", 32, {"ztfg", "ztfr"}),
    ("PGIR", "pgir_alerts/20210629/114297926.avro", 71, {"cspjs"}),
    ("WNTR", "wntr_alerts/20240311/3608694.avro", 1, {"2massj"}),
    ("WNTR", "wntr_alerts/20220815/2459362710041.avro", 1, {"ps1::y"}),
    ("TURBO", "turbo_alerts/1.avro", 0, set()),
]
"""A packet, and how many points in which filters SkyPortal gets of it."""


def hand_over(settings: Settings, mongo: MongoClient[Record], survey: Survey, values: list[bytes]) -> None:
    """Take packets through all stages, with a filter that lets everything pass."""
    settings.ml.of(survey.name).models.clear()
    settings.database.xmatch[survey.name] = {}
    context = WorkerContext.open(settings, survey)
    indexes.ensure(context.data, settings, survey)
    outbox.ensure_indexes(context.system)
    version = filters.new_version(json.dumps([{"$match": {"candid": {"$gte": 0}}}]))
    context.system[names.FILTERS].insert_one(
        {
            "filter_id": 1, "group_id": 1, "catalog": survey.alerts, "permissions": [1, 2, 3], "active": True,
            "autosave": False, "update_annotations": False, "active_fid": version["fid"], "fv": [version],
        }
    )  # fmt: skip
    packets = [Packet("topic", 0, at, 1_700_000_000_000, value) for at, value in enumerate(values)]
    report = pipeline.process(packets, context)
    assert (report.passes, report.rejected) == (len(values), 0)
    context.data.client.close()


async def delivered(settings: Settings, mongo: MongoClient[Record]) -> None:
    box = mongo[settings.database.system_db][names.OUTBOX]
    async with running(settings):
        await until(lambda: not box.count_documents({"state": "pending"}))
    assert box.count_documents({"state": {"$ne": "delivered"}}) == 0, list(box.find({}, {"error": 1, "refused": 1}))


@pytest.mark.parametrize(("name", "file", "count", "bands"), REAL)
async def test_real_packets(
    settings: Settings,
    mongo: MongoClient[Record],
    fake: Any,
    sample_data: Path,
    name: str,
    file: str,
    count: int,
    bands: set[str],
) -> None:
    survey = surveys.get(name)
    hand_over(settings, mongo, survey, [(sample_data / file).read_bytes()])
    await delivered(settings, mongo)
    points = list(fake.memory.photometry.values())
    assert len(points) == count
    assert {point["filter"] for point in points} == bands
    assert len(fake.memory.candidates) == 1
    assert len(fake.memory.thumbnails) == 3
    assert fake.memory.calls["PUT /api/photometry"] == bool(count)
    for picture in fake.memory.thumbnails.values():
        assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (168, 168)


@pytest.mark.parametrize("survey", surveys.SURVEYS.values(), ids=lambda survey: survey.name)
async def test_simulated_packets(settings: Settings, mongo: MongoClient[Record], fake: Any, survey: Survey) -> None:
    encode = simulator.writer(survey.name).encode
    packets = [each.packet for each in simulator.packets(4, survey.name, seed=5)]
    made = [survey.shape(packet) for packet in packets]
    hand_over(settings, mongo, survey, [encode(packet) for packet in packets])
    await delivered(settings, mongo)
    memory = fake.memory
    assert {each["id"] for each in memory.candidates} == {each.object_id for each in made}
    assert {each["passing_alert_id"] for each in memory.candidates} == {each.candid for each in made}
    assert set(memory.thumbnails) == {f"{each.object_id}|{kind}" for each in made for kind in ("new", "ref", "sub")}
    used = {stream for point in memory.photometry.values() for stream in point["stream_ids"]}
    assert {STREAMS[stream - 1] for stream in used} <= set(survey.streams.values())
    assert {key.split("|")[1] for key in memory.photometry} <= {str(1 + INSTRUMENTS.index(survey.instrument))}
    assert {point["filter"] for point in memory.photometry.values()} <= set(survey.bands.values())
