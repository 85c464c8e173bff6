"""Every survey goes the same way: real and simulated packets to documents, through filters, into the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo import MongoClient

from kowalski import surveys
from kowalski.archive import filters, indexes, names
from kowalski.archive.catalogs import Catalogs
from kowalski.broker import pipeline
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.config import Settings
from kowalski.surveys import Survey
from kowalski.testing import simulator

Record = dict[str, Any]
Opener = Callable[[str], WorkerContext]

ALL = list(surveys.SURVEYS.values())
REAL = [
    ("ZTF", ["ztf_alerts/20200202"], 12, 11),
    ("PGIR", ["pgir_alerts/20210629"], 10, 8),
    ("WNTR", ["wntr_alerts/20240311"], 7, 7),
    ("WNTR", ["wntr_alerts/20240311", "wntr_alerts/20220815"], 10, 10),
    ("TURBO", ["turbo_alerts"], 7, 7),
    ("LSST", ["lsst_alerts/ocf_v9_0"], 40, 39),
]
"""Folders of real packets, and how many alerts and objects are in them."""
EVERYTHING = [
    {"$match": {"candid": {"$gte": 0}}},
    {"$project": {"annotations": {"earlier": {"$size": "$prv_candidates"}, "matches": "$cross_matches"}}},
]


@pytest.fixture
def open_context(settings: Settings, mongo: MongoClient[Record]) -> Iterator[Opener]:
    """Give a worker of a survey, without models and catalogs."""
    opened: list[WorkerContext] = []

    def open_one(name: str) -> WorkerContext:
        survey = surveys.get(name)
        settings.ml.of(survey.name).models.clear()
        settings.database.xmatch[survey.name] = {}
        context = WorkerContext.open(settings, survey)
        indexes.ensure(context.data, settings, survey)
        opened.append(context)
        return context

    yield open_one
    for context in opened:
        context.data.client.close()


def add_filter(context: WorkerContext, permissions: Sequence[int], filter_id: int = 1) -> None:
    version = filters.new_version(json.dumps(EVERYTHING))
    context.system[names.FILTERS].insert_one(
        {
            "filter_id": filter_id, "group_id": 7, "catalog": context.survey.alerts, "permissions": list(permissions),
            "active": True, "autosave": False, "update_annotations": False, "active_fid": version["fid"],
            "fv": [version],
        }
    )  # fmt: skip


def packets(values: Sequence[bytes]) -> list[Packet]:
    return [Packet("topic", 0, offset, 1_700_000_000_000, value) for offset, value in enumerate(values)]


def simulated(survey: Survey, count: int, seed: int = 3, night: date = simulator.NIGHT) -> list[Packet]:
    encode = simulator.writer(survey.name).encode
    return packets([encode(each.packet) for each in simulator.packets(count, survey.name, seed, night)])


def state(context: WorkerContext) -> str:
    """What a batch leaves behind."""
    survey = context.survey
    collections = (context.data[survey.alerts], context.data[survey.objects], context.system[names.OUTBOX])
    return json_util.dumps([list(collection.find().sort("_id", 1)) for collection in collections])


def check(context: WorkerContext, given: list[Packet], alerts: int, objects: int) -> None:
    """Process packets twice: all of them are documents, pass, and change nothing the second time."""
    survey, data = context.survey, context.data
    add_filter(context, [1, 2, 3])
    report = pipeline.process(given, context)
    assert (report.alerts, report.rejected, report.passes) == (alerts, 0, alerts)
    assert data[survey.alerts].count_documents({}) == alerts
    assert data[survey.objects].count_documents({}) == objects
    for stored in data[survey.alerts].find():
        assert stored["_id"] == stored["candid"]
        known = data[survey.objects].find_one({"_id": stored[survey.object_id_field]})
        assert known is not None
        assert known["cross_matches"] == {}
        assert {"radec_str", "radec_geojson", "l", "b"} <= stored["coordinates"].keys()
        assert not {history.name for history in survey.histories} & stored.keys()
    once = state(context)
    pipeline.process(given, context)
    assert state(context) == once


@pytest.mark.parametrize(("name", "folders", "alerts", "objects"), REAL)
def test_real_packets(
    sample_data: Path, open_context: Opener, name: str, folders: list[str], alerts: int, objects: int
) -> None:
    files = [file for folder in folders for file in sorted((sample_data / folder).glob("*.avro"))]
    check(open_context(name), packets([file.read_bytes() for file in files]), alerts, objects)


@pytest.mark.parametrize("survey", ALL, ids=lambda survey: survey.name)
def test_simulated_packets(open_context: Opener, survey: Survey) -> None:
    check(open_context(survey.name), simulated(survey, 20), 20, 20 - int(20 * simulator.REPEATS))


@pytest.mark.parametrize("survey", ALL, ids=lambda survey: survey.name)
def test_programs_decide_where_there_are_any(open_context: Opener, survey: Survey) -> None:
    """Simulated alerts are of program 1."""
    context = open_context(survey.name)
    add_filter(context, [2], 1)
    add_filter(context, [1], 2)
    pipeline.process(simulated(survey, 4), context)
    passed = [set(each["passes"]) for each in context.system[names.OUTBOX].find()]
    expected = {"7:2"} if survey.program_field is not None else {"7:1", "7:2"}
    assert passed == [expected] * 4


def test_a_candid_that_two_exports_give_belongs_to_the_first(open_context: Opener) -> None:
    """TURBO counts from 0 in each export."""
    context = open_context("TURBO")
    survey = context.survey
    pipeline.process(simulated(survey, 6, seed=1), context)
    first = {each["_id"]: each["objectId"] for each in context.data[survey.alerts].find()}
    report = pipeline.process(simulated(survey, 6, seed=2), context)
    letters = list(context.system[names.DEAD_LETTERS].find())
    assert report.rejected == len(letters) > 0
    for letter in letters:
        words = letter["reason"].split()
        assert letter["reason"] == f"candid {words[1]} already belongs to object {first[int(words[1])]}"
    stored = context.data[survey.alerts].find({"_id": {"$in": list(first)}})
    assert {each["_id"]: each["objectId"] for each in stored} == first


@pytest.mark.parametrize("name", ["PGIR", "WNTR", "TURBO"])
def test_the_newest_public_neighbour_is_kept_in_one_shape(open_context: Opener, settings: Settings, name: str) -> None:
    """Equal seeds simulate the same sky, so each object has a neighbour; a newer alert of it takes its place."""
    declared = settings.database.xmatch[name]["ZTF_alerts"]
    ztf, context = open_context("ZTF"), open_context(name)
    context.catalogs = Catalogs(context.data, {"ZTF_alerts": declared})
    alerts, objects = ztf.data[ztf.survey.alerts], context.data[context.survey.objects]
    given = simulated(context.survey, 5)
    pipeline.process(simulated(ztf.survey, 5), ztf)
    pipeline.process(given, context)
    places = {each["coordinates"]["radec_str"][0]: each for each in alerts.find().sort("candidate.jd", 1)}
    found = {each["_id"]: each["cross_matches"] for each in objects.find()}
    assert len(found) == len(places)
    for matches in found.values():
        (neighbour,) = matches["ZTF_alerts"]
        newest = places[neighbour["coordinates"]["radec_str"][0]]
        assert (neighbour["candid"], neighbour["objectId"]) == (newest["candid"], newest["objectId"])
        assert neighbour["candidate"].keys() == {"jd", "magpsf", "sigmapsf", "fid", "drb"}

    later = next(iter(places.values()))
    for days, program in ((1, 1), (2, 2)):
        newer = later["candidate"] | {"jd": later["candidate"]["jd"] + days, "programid": program}
        alerts.insert_one(later | {"_id": days, "candid": days, "candidate": newer})
    pipeline.process(given, context)
    candids = [each["cross_matches"]["ZTF_alerts"][0]["candid"] for each in objects.find()]
    assert candids.count(1) == 1
    assert all(len(each["cross_matches"]["ZTF_alerts"]) == 1 for each in objects.find())
