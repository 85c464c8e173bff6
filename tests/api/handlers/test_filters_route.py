"""Filters over HTTP: what is checked, in which order, with which words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.archive.client import data_database
from kowalski.config import Settings

CUT = [{"$match": {"candidate.drb": {"$gt": 0.9999}, "cross_matches.CLU.0": {"$exists": False}}}]
FILTER = {"group_id": 7, "filter_id": 1, "catalog": "ZTF_alerts", "permissions": [1], "pipeline": CUT}
FOLLOWUP = {"active": True, "allocation_id": 1, "priority_order": "desc", "payload": {"type": "IFU"}, "pipeline": CUT}


async def saved(admin: Any, **fields: Any) -> dict[str, Any]:
    status, answer = await admin("POST", "/api/filters", {**FILTER, **fields})
    assert status == 200, answer
    return dict(answer["data"])


async def changed(admin: Any, **fields: Any) -> dict[str, Any]:
    status, answer = await admin("PATCH", "/api/filters", {"filter_id": 1, **fields})
    assert (status, answer["message"]) == (200, "Updated filter id 1"), answer
    return dict(answer["data"])


async def test_a_new_version_is_the_active_one_and_keeps_what_is_not_named(admin: Any) -> None:
    first = await saved(admin, autosave=True)
    assert len(first["fid"]) == 6
    assert json.loads(first["pipeline"]) == CUT
    second = await saved(admin)
    assert second["fid"] != first["fid"]
    _, answer = await admin("GET", "/api/filters/1")
    stored = answer["data"]
    assert (stored["active_fid"], stored["active"], stored["autosave"]) == (second["fid"], True, True)
    assert [version["fid"] for version in stored["fv"]] == [first["fid"], second["fid"]]
    await saved(admin, autosave=False)
    assert (await admin("GET", "/api/filters/1"))[1]["data"]["autosave"] is False


async def test_the_life_of_a_filter_as_clients_lead_it(admin: Any) -> None:
    """Step by step what SkyPortal and its users do; after each step the filter is what they expect."""
    first = (await saved(admin))["fid"]
    _, answer = await admin("GET", "/api/filters/1")
    assert answer["message"] == "Retrieved filter id 1"
    stored = answer["data"]
    assert (stored["active_fid"], stored["autosave"], stored["auto_followup"]) == (first, False, {})
    assert (stored["active"], stored["update_annotations"], stored["permissions"]) == (True, False, [1])
    assert {"_id", "created_at", "last_modified"} <= stored.keys()
    second = (await saved(admin))["fid"]
    assert second != first
    assert (await changed(admin, active_fid=first))["active_fid"] == first
    assert (await changed(admin, autosave=True))["autosave"] is True
    autosave = {"active": True, "comment": "it is new", "pipeline": json.dumps(CUT), "ignore_group_ids": [1, 2, 3]}
    assert (await changed(admin, autosave=autosave))["autosave"] == autosave
    followup = {**FOLLOWUP, "pipeline": json.dumps(CUT)}
    assert (await changed(admin, auto_followup=FOLLOWUP))["auto_followup"] == followup
    other = {**FILTER, "autosave": autosave, "auto_followup": {**FOLLOWUP, "priority_order": "asc"}}
    assert (await admin("POST", "/api/filters", other))[0] == 400
    assert (await changed(admin, update_annotations=True))["update_annotations"] is True
    assert (await changed(admin, active=False))["active"] is False
    _, answer = await admin("GET", "/api/filters/1")
    assert (answer["data"]["active"], answer["data"]["active_fid"]) == (False, first)
    assert (await admin("DELETE", "/api/filters/1"))[1]["message"] == "Removed filter id 1"
    again = await saved(admin, autosave=autosave, auto_followup=followup)
    assert (again["filter_id"], again["active_fid"]) == (1, again["fid"])


async def test_versions_posted_at_once_are_all_kept(admin: Any) -> None:
    versions = await asyncio.gather(*(saved(admin) for _ in range(8)))
    _, answer = await admin("GET", "/api/filters/1")
    assert {version["fid"] for version in answer["data"]["fv"]} == {version["fid"] for version in versions}


async def test_a_pipeline_may_be_text(admin: Any) -> None:
    text = '[{"$match": {"candidate.jd": {"$gt": 1}, "objectId": {"$regex": "^ZTF", "$options": "i"}}}]'
    assert (await saved(admin, pipeline=text))["pipeline"] == text


async def test_blocks_are_stored_as_sent_with_pipelines_as_text(admin: Any) -> None:
    await saved(admin)
    assert (await changed(admin, autosave=True))["autosave"] is True
    block = {"active": True, "comment": "good", "pipeline": json.dumps(CUT), "ignore_group_ids": [1, 2]}
    assert (await changed(admin, autosave=block))["autosave"] == block
    expected = {**FOLLOWUP, "pipeline": json.dumps(CUT)}
    assert (await changed(admin, auto_followup=FOLLOWUP))["auto_followup"] == expected


async def test_a_changed_block_keeps_what_is_not_named(admin: Any) -> None:
    """Switching off and on must not lose the rest, nor do two changes at the same time lose one."""
    await saved(admin)
    # as SkyPortal's page does it: the switch first, then the rest
    assert (await changed(admin, auto_followup={"active": True}))["auto_followup"] == {"active": True}
    changes = ({"comment": "bright"}, {"radius": 2, "priority_order": "asc", "allocation_id": 3}, {"pipeline": CUT})
    await asyncio.gather(*(changed(admin, auto_followup=change) for change in changes))
    stored = await changed(admin, auto_followup={"active": False, "comment": None})
    assert stored["auto_followup"] == {
        "active": False, "comment": None, "radius": 2.0, "priority_order": "asc", "allocation_id": 3,
        "pipeline": json.dumps(CUT),
    }  # fmt: skip
    assert (await changed(admin, auto_followup={}))["auto_followup"] == {}
    assert (await changed(admin, autosave={"comment": "$active"}))["autosave"] == {"comment": "$active"}
    assert (await changed(admin, autosave=False))["autosave"] is False


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"auto_followup": {"radius": "wide"}}, "auto_followup.radius"),
        ({"auto_followup": {"radius": 0}}, "auto_followup.radius"),
        ({"auto_followup": {"payload": {"priority": "high"}}}, "priority must be a number"),
        ({"auto_followup": {"payload": {"urgency": None, "priority": 1}}}, "urgency must be a number"),
        ({"auto_followup": {"payload": [1]}}, "auto_followup.payload"),
        ({"auto_followup": {"allocation_id": "mine"}}, "auto_followup.allocation_id"),
        ({"auto_followup": {"priority_order": "desc"}}, "needs an allocation_id"),
        ({"auto_followup": {"pipeline": [{"$lookup": {"from": "users"}}]}}, "forbidden stages"),
        ({"autosave": {"ignore_group_ids": [1, "x"]}}, "autosave.ignore_group_ids.1"),
        ({"autosave": {"saver_id": 1.5}}, "autosave.saver_id"),
        ({"autosave": {"active": "perhaps"}}, "autosave.active"),
    ],
)
async def test_the_parts_of_blocks_have_types(admin: Any, block: dict[str, Any], message: str) -> None:
    await saved(admin)
    status, answer = await admin("PATCH", "/api/filters", {"filter_id": 1, **block})
    assert (status, answer["status"]) == (400, "error")
    assert message in answer["message"]


async def test_numbers_in_blocks_may_be_text(admin: Any) -> None:
    """They come from forms; an allocation is the same one whichever way it was written."""
    block = {**FOLLOWUP, "allocation_id": "4", "payload": {"priority": "2"}, "radius": "", "not_if_tns_reported": None}
    await saved(admin, autosave=True, auto_followup=block)
    other = {**FOLLOWUP, "allocation_id": 4, "priority_order": "asc"}
    status, answer = await admin(
        "POST", "/api/filters", {**FILTER, "filter_id": 2, "autosave": True, "auto_followup": other}
    )
    assert status == 400
    assert "filters with the same allocation have priority_order set to a different value" in answer["message"]


async def test_priority_orders_of_an_allocation_agree(admin: Any) -> None:
    await saved(admin, autosave=True, auto_followup=FOLLOWUP)
    other = {**FOLLOWUP, "priority_order": "asc"}
    for filter_id in (1, 2):
        status, answer = await admin(
            "POST", "/api/filters", {**FILTER, "filter_id": filter_id, "autosave": True, "auto_followup": other}
        )
        assert status == 400
        assert (
            "filters with the same allocation have priority_order set to a different value, which is unexpected"
            in answer["message"]
        )
    assert (await changed(admin, auto_followup=other))["auto_followup"]["priority_order"] == "asc"


async def test_refused(admin: Any) -> None:
    await saved(admin)
    bad_stage = [{"$matc": {}}]
    for body, message in (
        ({"pipeline": []}, "pipeline must contain at least one stage"),
        ({"pipeline": [{"$lookup": {"from": "ZTF_alerts_aux"}}]}, "pipeline uses forbidden stages"),
        ({"pipeline": [{"$facet": {"a": [{"$unionWith": "b"}]}}]}, "pipeline uses forbidden stages"),
        ({"pipeline": bad_stage}, "$matc"),
        ({"pipeline": [{"$match": {"$expr": {"$nonsense": 1}}}]}, "nonsense"),
        ({"pipeline": [{"$match": {"candid": 2**64 - 1}}]}, "pipeline is invalid"),
        ({"pipeline": [{"$match": {"a": {"$numberDecimal": "x"}}}]}, "not valid JSON"),
        ({"pipeline": "[{"}, "not valid JSON"),
        ({"catalog": "Gaia_EDR3"}, "filters run on"),
        ({"permissions": None}, "permissions"),
        ({"filter_id": 0}, "filter_id"),
        ({"filter_id": 2**64 - 1}, "ValidationError"),
        ({"auto_followup": FOLLOWUP}, "Cannot setup auto_followup without autosave enabled"),
        ({"autosave": {"active": False}, "auto_followup": FOLLOWUP}, "without autosave enabled"),
        ({"autosave": {"active": True, "nonsense": 1}}, "Cannot test autosave pipeline: invalid keys"),
        ({"autosave": {"active": True, "pipeline": bad_stage}}, "$matc"),
        ({"autosave": {"active": True, "pipeline": [{"$out": "x"}]}}, "forbidden stages"),
        ({"autosave": True, "auto_followup": {"active": True, "comment": "x"}}, "pipeline"),
        ({"autosave": True, "auto_followup": {**FOLLOWUP, "priority_order": "up"}}, "priority_order"),
    ):
        status, answer = await admin("POST", "/api/filters", {**FILTER, **body})
        assert (status, answer["status"]) == (400, "error"), body
        assert message in answer["message"], body
    for body, message in (
        ({"active_fid": "nobody"}, "filter version fid not in filter"),
        ({"autosave": {"nonsense": 1}}, "Cannot update filter id 1: autosave contains invalid keys"),
        ({"auto_followup": 3}, "auto_followup"),
        ({}, "nothing to change"),
    ):
        status, answer = await admin("PATCH", "/api/filters", {"filter_id": 1, **body})
        assert (status, answer["status"]) == (400, "error"), body
        assert message in answer["message"], body
    _, answer = await admin("GET", "/api/filters/1")
    assert len(answer["data"]["fv"]) == 1
    assert (await admin("POST", "/api/filters", {**FILTER, "group_id": 8}))[0] == 409


async def test_a_filter_that_is_not_there(admin: Any) -> None:
    expected = (400, {"status": "error", "message": "Filter id 1 not found"})
    assert await admin("GET", "/api/filters/1") == expected
    assert await admin("PATCH", "/api/filters", {"filter_id": 1, "active": False}) == expected
    assert await admin("DELETE", "/api/filters/1") == expected


async def test_without_alerts_a_filter_is_accepted_with_a_warning(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any
) -> None:
    data_database(mongo, archive)["ZTF_alerts"].delete_many({})
    status, answer = await admin("POST", "/api/filters", FILTER)
    assert status == 200
    assert answer["message"].startswith("WARNING: ")
    assert answer["message"].endswith(f"\nsaved new filter version: {answer['data']['fid']}")


@pytest.mark.parametrize("extra", [{"fv": [], "id": 3, "active_fid": "abcdef", "suspended": {"at": 1}}])
async def test_nothing_else_can_be_set(admin: Any, extra: dict[str, Any]) -> None:
    version = await saved(admin, **extra)
    _, answer = await admin("GET", "/api/filters/1")
    assert answer["data"]["active_fid"] == version["fid"]
    assert not {"id", "suspended"} & answer["data"].keys()
