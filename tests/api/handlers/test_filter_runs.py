"""Filters on the archive: the test route for every survey, dry runs of a night, the limit of what may pass, numbers."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from kowalski.archive import filter_statistics, indexes
from kowalski.archive.client import data_database, system_database
from kowalski.archive.filter_statistics import Statistics
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.night import Span, drawing
from kowalski.broker.pipeline import process
from kowalski.config import Settings
from kowalski.surveys import SURVEYS, Survey, get

Document = dict[str, Any]

NIGHT = 2460229.5
"""2023-10-12 UTC."""
ALERTS = 60
EVERYTHING = [{"$match": {}}]


def jd(number: int) -> float:
    return NIGHT + (number + 0.5) / 240


def night(survey: Survey, data: Database[Document]) -> None:
    """Store a night of six hours: ten alerts an hour of four objects, with history from before and after the alert."""
    name = survey.object_id_field
    alerts, objects = [], []
    for number in range(ALERTS):
        candidate = {"jd": jd(number), "programid": 1 + number % 2, "magpsf": 17.0 + number / 20}
        alerts.append({"_id": number, "candid": number, name: f"object{number % 4}", "candidate": candidate})
    for number in range(4):
        rows = [{"jd": NIGHT - 1 + at, "programid": 1, "procstatus": "0"} for at in (0, 1, 2)]
        objects.append({"_id": f"object{number}", **{history.name: rows for history in survey.histories}})
    for collection, documents in ((survey.alerts, alerts), (survey.objects, objects)):
        data[collection].delete_many({})
        data[collection].insert_many(documents)


@pytest.fixture
def data(archive: Settings, mongo: MongoClient[Document]) -> Database[Document]:
    found = data_database(mongo, archive)
    night(get("ZTF"), found)
    return found


async def save(admin: Any, pipeline: Any, filter_id: int = 1, **fields: Any) -> Document:
    body = {"filter_id": filter_id, "group_id": 1, "catalog": "ZTF_alerts", "permissions": [1, 2], "pipeline": pipeline}
    status, answer = await admin("POST", "/api/filters", body | fields)
    assert status == 200, answer
    return dict(answer)


async def run(admin: Any, what: str, filter_id: int = 1, **body: Any) -> Any:
    status, answer = await admin("POST", f"/api/filters/{filter_id}/{what}", body)
    assert status == 200, answer
    assert answer["message"] == {"test": "filter test successful", "dryrun": "filter dry run successful"}[what]
    return answer["data"]


@pytest.mark.parametrize("name", SURVEYS)
async def test_a_filter_of_any_survey_is_tested_on_the_archive(admin: Any, data: Database[Document], name: str) -> None:
    survey = get(name)
    night(survey, data)
    rows = survey.histories[0].name if survey.histories else None
    stages: list[Document] = [{"$match": {"candidate.magpsf": {"$lt": 18.0}}}]
    stages += [{"$project": {"rows": {"$size": f"${rows}"}, survey.object_id_field: 1}}] if rows else []
    await save(admin, stages, catalog=survey.alerts)
    found = await run(admin, "test", object_ids=["object0", "object1", "nothing"])
    expected = {number for number in range(20) if number % 4 in (0, 1)}
    assert {each["_id"] for each in found} == expected
    if rows:  # no hindsight: what was measured after the alert is not there
        assert {each["_id"]: each["rows"] for each in found} == dict.fromkeys(expected, 2)
    found = await run(admin, "test", start_date=jd(1), end_date=jd(5))
    assert {each["_id"] for each in found} == {1, 2, 3, 4, 5}
    report = await run(admin, "dryrun", night="20231012")
    assert (report["examined"], report["passed"]) == (ALERTS, 20)


async def test_tests_take_versions_dates_and_objects(admin: Any, data: Database[Document]) -> None:
    first = (await save(admin, [{"$match": {"candid": 1}}]))["data"]["fid"]
    await save(admin, [{"$match": {"candid": {"$in": [2, 3]}}}])
    await admin("PATCH", "/api/filters", {"filter_id": 1, "active_fid": first})
    day = {"start_date": "2023-10-12T00:00:00", "end_date": "2023-10-13T00:00:00Z"}
    # the last version, not the active one
    assert {each["candid"] for each in await run(admin, "test", **day)} == {2, 3}
    assert [each["candid"] for each in await run(admin, "test", filter_version=first, **day)] == [1]
    month = {"start_date": NIGHT - 10, "end_date": NIGHT + 20}
    assert [each["candid"] for each in await run(admin, "test", object_ids=["object2"], **month)] == [2]
    assert await run(admin, "test", start_date=NIGHT - 5000, end_date=NIGHT - 4999) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "object_ids, or start_date and end_date must be given"),
        ({"object_ids": []}, "object_ids, or start_date and end_date must be given"),
        ({"object_ids": ["x"] * 1001}, "object_ids"),
        ({"start_date": NIGHT}, "must be given together"),
        ({"object_ids": ["x"], "end_date": NIGHT}, "must be given together"),
        ({"start_date": 20231012, "end_date": 20231013}, "start_date: must be a float or a string"),
        ({"start_date": "yesterday", "end_date": NIGHT}, "start_date: Invalid isoformat string"),
        ({"start_date": NIGHT, "end_date": NIGHT - 1}, "end_date is before start_date"),
        (
            {"start_date": NIGHT, "end_date": NIGHT + 2},
            "start_date and end_date must be within 1 day of each other if object_ids is not provided",
        ),
        ({"object_ids": ["x"], "max_time_ms": 3000001}, "max_time_ms must be less than 5 minutes (in ms: 300000)"),
        ({"object_ids": ["x"], "max_time_ms": 0}, "max_time_ms"),
        ({"object_ids": ["x"], "filter_version": "nobody"}, "Filter version nobody not found"),
    ],
)
async def test_what_a_test_does_not_take(admin: Any, archive: Settings, body: Document, message: str) -> None:
    await save(admin, EVERYTHING)
    status, answer = await admin("POST", "/api/filters/1/test", body)
    assert (status, answer["status"]) == (400, "error")
    assert message in answer["message"]


async def test_a_filter_that_is_not_there(admin: Any, user: Any) -> None:
    expected = (400, {"status": "error", "message": "Filter id 7 not found"})
    assert await admin("POST", "/api/filters/7/test", {"object_ids": ["x"]}) == expected
    assert await admin("POST", "/api/filters/7/dryrun", {}) == expected
    assert await admin("GET", "/api/filters/7/statistics") == expected
    for method, path in (("POST", "test"), ("POST", "dryrun"), ("GET", "statistics")):
        assert (await user(method, f"/api/filters/7/{path}"))[0] == 403


async def test_a_filter_that_fails_is_told_with_mongodbs_words(admin: Any, data: Database[Document]) -> None:
    await save(admin, [{"$match": {"$expr": {"$gt": [{"$divide": [1, {"$subtract": ["$candid", 3]}]}, 0]}}}])
    status, answer = await admin("POST", "/api/filters/1/test", {"object_ids": ["object3"]})
    assert status == 400
    assert "divide by zero" in answer["message"]
    report = await run(admin, "dryrun", night="2023-10-12")
    assert (report["examined"], report["passed"], report["errors"]) == (ALERTS, 56, 1)
    assert "divide by zero" in report["trouble"]


async def test_filters_that_run_at_the_same_time_keep_their_own_permissions(
    admin: Any, data: Database[Document]
) -> None:
    await asyncio.gather(*(save(admin, EVERYTHING, filter_id, permissions=[filter_id]) for filter_id in (1, 2)))
    span = {"start_date": NIGHT, "end_date": NIGHT + 1}
    runs = await asyncio.gather(*(run(admin, "test", 1 + at % 2, **span) for at in range(12)))
    for at, found in enumerate(runs):
        assert {each["candidate"]["programid"] for each in found} == {1 + at % 2}
        assert len(found) == ALERTS // 2


async def test_a_dry_run_counts_hour_by_hour(admin: Any, data: Database[Document]) -> None:
    await save(admin, [{"$match": {"candid": {"$lt": 25}}}, {"$project": {"annotations.mag": "$candidate.magpsf"}}])
    report = await run(admin, "dryrun")  # the last night that there is
    assert (report["start"], report["end"]) == (NIGHT, NIGHT + 1)
    assert (report["alerts"], report["examined"], report["passed"], report["expected"]) == (ALERTS, ALERTS, 25, 25)
    assert report["pass_rate"] == 25 / ALERTS
    assert (report["is_complete"], report["errors"], report["trouble"]) == (True, 0, None)
    assert report["ms_per_alert"] > 0
    assert [hour["passed"] for hour in report["hours"]] == [10, 10, 5, 0, 0, 0]
    assert [hour["alerts"] for hour in report["hours"]] == [hour["examined"] for hour in report["hours"]] == [10] * 6
    assert f"{report['hours'][1]['start']:%Y-%m-%d %H:%M}" == "2023-10-12 01:00"
    assert [each["candid"] for each in report["passes"]] == list(range(25))
    assert report["passes"][4] == {
        "candid": 4, "objectId": "object0", "jd": jd(4), "annotations": {"mag": 17.2},
    }  # fmt: skip
    nothing = await run(admin, "dryrun", night="20231011")
    assert (nothing["alerts"], nothing["pass_rate"], nothing["expected"], nothing["hours"]) == (0, None, None, [])
    half = await run(admin, "dryrun", start_date=NIGHT, end_date=NIGHT + 0.125)
    assert (half["examined"], half["passed"]) == (30, 25)


async def test_a_dry_run_sees_what_the_filter_may_see(admin: Any, data: Database[Document]) -> None:
    await save(admin, [{"$match": {"candid": {"$lt": 20}}}], permissions=[2])
    report = await run(admin, "dryrun")
    assert (report["alerts"], report["examined"], report["passed"]) == (ALERTS, ALERTS // 2, 10)
    assert (report["pass_rate"], report["expected"], report["is_complete"]) == (10 / 30, 10, True)
    assert {each["candid"] % 2 for each in report["passes"]} == {1}


@pytest.mark.parametrize("name", SURVEYS)
def test_the_alerts_of_a_night_are_drawn_from_an_index_alone(
    archive: Settings, data: Database[Document], name: str
) -> None:
    """Alerts are large: to read those of a whole night would take minutes."""
    survey = get(name)
    indexes.ensure(data, archive, survey)
    night(survey, data)
    command = {"aggregate": survey.alerts, "pipeline": drawing(Span(NIGHT, NIGHT + 1), 10), "cursor": {}}
    told = json.dumps(data.command("explain", command, verbosity="executionStats"), default=str)
    assert '"IXSCAN"' in told
    assert set(re.findall(r'"totalDocsExamined": (\d+)', told)) == {"0"}


async def test_a_dry_run_runs_alert_by_alert_what_the_broker_would(admin: Any, data: Database[Document]) -> None:
    """A count gives one document for each alert, and one for a whole batch."""
    await save(admin, [{"$match": {"candid": {"$lt": 25}}}, {"$count": "n"}])
    report = await run(admin, "dryrun")
    assert (report["passed"], [each["candid"] for each in report["passes"]]) == (25, list(range(25)))


async def test_a_dry_run_ends_in_time_with_a_fair_sample(
    admin: Any, archive: Settings, data: Database[Document]
) -> None:
    slow = {"$reduce": {"input": {"$range": [0, 150_000]}, "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}
    await save(admin, [{"$match": {"$expr": {"$gte": [slow, 0]}}}, {"$limit": 1}])
    report = await run(admin, "dryrun", max_time_ms=100)
    assert 0 < report["examined"] == report["passed"] < report["alerts"] == ALERTS
    assert report["is_complete"] is False
    assert (report["pass_rate"], report["expected"]) == (1.0, ALERTS)


async def test_a_dry_run_tells_what_the_broker_would_switch_off(admin: Any, data: Database[Document]) -> None:
    failing = [{"$match": {"$expr": {"$gt": [{"$divide": [1, {"$subtract": ["$candid", "$candid"]}]}, 0]}}}]
    await save(admin, failing, permissions=[7])  # it sees no alert when it is tried
    data["ZTF_alerts"].update_many({}, {"$set": {"candidate.programid": 7}})
    report = await run(admin, "dryrun")
    assert report["trouble"].startswith("the broker would switch it off: 5 failures in a row; the last: failed: ")
    assert (report["errors"], report["passed"], report["examined"]) == (5, 0, 0)


async def test_a_version_that_passes_too_much_is_kept_but_not_active(
    admin: Any, archive: Settings, data: Database[Document]
) -> None:
    archive.filters.max_pass_rate = 0.5
    first = await save(admin, [{"$match": {"candid": {"$lt": 30}}}])
    assert "not active" not in first["message"]
    second = await save(admin, [{"$match": {"candid": {"$lt": 31}}}])
    assert second["message"].endswith(
        f"saved new filter version: {second['data']['fid']}\nnot active: it passes 31 of 60 alerts of 2023-10-12, more"
        " than filters.max_pass_rate (0.5) allows; save it with force, or set active_fid"
    )
    assert second["data"]["active_fid"] == first["data"]["fid"]
    stored = (await admin("GET", "/api/filters/1"))[1]["data"]
    assert stored["active_fid"] == first["data"]["fid"]
    assert [version["fid"] for version in stored["fv"]] == [first["data"]["fid"], second["data"]["fid"]]
    forced = await save(admin, [{"$match": {"candid": {"$lt": 31}}}], force=True)
    assert forced["data"]["active_fid"] == forced["data"]["fid"]


async def test_a_version_whose_pass_rate_is_not_known_in_time_is_kept_but_not_active(
    admin: Any, archive: Settings, data: Database[Document]
) -> None:
    archive.filters.max_pass_rate, archive.filters.max_pass_rate_time_ms = 0.5, 1
    data["ZTF_alerts"].insert_many({"candid": n, "candidate": {"jd": NIGHT + 0.5}} for n in range(100, 30_000))
    saved = await save(admin, [{"$match": {"candid": 1}}])
    assert "not active: how much it passes can't be found out" in saved["message"]
    assert saved["data"]["active_fid"] is None


async def test_a_new_filter_that_passes_too_much_does_not_run(
    admin: Any, archive: Settings, data: Database[Document], mongo: MongoClient[Document]
) -> None:
    archive.filters.max_pass_rate = 0.01
    saved = await save(admin, EVERYTHING)
    assert saved["data"]["active_fid"] is None
    with_context(archive, lambda context: context.filters.run([1, 2]) == {} or pytest.fail("it runs"))
    stored = (await admin("GET", "/api/filters/1"))[1]["data"]
    assert (stored["active_fid"], "suspended" in stored) == (None, False)
    status, answer = await admin("PATCH", "/api/filters", {"filter_id": 1, "active_fid": saved["data"]["fid"]})
    assert (status, answer["data"]["active_fid"]) == (200, saved["data"]["fid"])


def with_context(settings: Settings, use: Any) -> None:
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    context = WorkerContext.open(settings, get("ZTF"))
    try:
        use(context)
    finally:
        context.data.client.close()


async def test_numbers_of_a_filter(admin: Any, archive: Settings, mongo: MongoClient[Document]) -> None:
    fid = (await save(admin, EVERYTHING))["data"]["fid"]
    system = system_database(mongo, archive)
    counted = Statistics()
    counted.count((1, fid), 200, 10, 50.0)
    counted.write(system)
    filter_statistics.add_error(system, (1, fid), "failed: something")
    status, answer = await admin("GET", "/api/filters/1/statistics")
    assert (status, answer["message"]) == (200, "Retrieved statistics of filter id 1")
    (version,) = answer["data"]["versions"]
    assert (answer["data"]["active_fid"], version["fid"], answer["data"]["suspended"]) == (fid, fid, None)
    assert (version["alerts"], version["passes"], version["pass_rate"], version["errors"]) == (200, 10, 0.05, 1)
    assert (version["ms_per_alert"], version["last_error"]) == (0.25, "failed: something")
    await admin("DELETE", "/api/filters/1")
    await save(admin, EVERYTHING)
    assert (await admin("GET", "/api/filters/1/statistics"))[1]["data"]["versions"] == []


async def test_too_many_dry_runs_are_told_to_come_back(admin: Any, archive: Settings, data: Database[Document]) -> None:
    slow = {"$reduce": {"input": {"$range": [0, 150_000]}, "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}
    await save(admin, [{"$match": {"$expr": {"$gte": [slow, 0]}}}, {"$limit": 1}])
    one = [admin("POST", "/api/filters/1/dryrun", {"max_time_ms": 300}) for _ in range(archive.filters.dry_runs + 1)]
    found = sorted(await asyncio.gather(*one), key=lambda each: each[0])
    assert [status for status, _ in found] == [200] * archive.filters.dry_runs + [503]
    assert "too many dry runs" in found[-1][1]["message"]
    assert (await admin("POST", "/api/filters/1/dryrun", {"max_time_ms": 1000}))[0] == 200


async def test_real_alerts(admin: Any, archive: Settings, sample_data: Path) -> None:
    """A real night, stored as the broker stores it: what passes is what the packets say."""
    files = sorted((sample_data / "ztf_alerts" / "20231012").glob("*.avro"))
    packets = [Packet("ztf_20231012_programid1", 0, at, 1, file.read_bytes()) for at, file in enumerate(files)]
    scores: dict[int, float] = {}

    def ingest(context: WorkerContext) -> None:
        process(packets, context)
        for packet in packets:
            scores.update({each["candid"]: each["candidate"]["drb"] for each in context.decoder.records(packet.value)})

    with_context(archive, ingest)
    await save(admin, [{"$match": {"candidate.drb": {"$gt": 0.9999}}}], permissions=[1])
    assert await run(admin, "test", object_ids=["ZTF17aadcvhq"]) == []
    limit = statistics.median(scores.values())
    await save(admin, [{"$match": {"candidate.drb": {"$gt": limit}}}])
    expected = {candid for candid, score in scores.items() if score > limit}
    found = await run(admin, "test", start_date=2460229.9338542, end_date=2460229.9338542 + 1)
    assert {each["candid"] for each in found} == expected
    assert all(each["prv_candidates"] and "cutoutScience" not in each for each in found)
    report = await run(admin, "dryrun", night="20231012")
    assert (report["examined"], report["passed"]) == (len(files), len(expected))
