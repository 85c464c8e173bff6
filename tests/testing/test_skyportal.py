"""The fake SkyPortal: it takes what it should, refuses what it should, and remembers."""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from kowalski.testing import services
from kowalski.testing.skyportal import Memory, build
from kowalski.testing.skyportal.shapes import Photometry

HEADERS = {"User-Agent": "Kowalski 4", "Authorization": "token t"}
CANDIDATE = {
    "id": "A",
    "ra": 1.0,
    "dec": 2.0,
    "score": None,
    "filter_ids": [1, 2],
    "passing_alert_id": 9,
    "passed_at": "2026-03-01T00:00:00.000",
    "origin": "Kowalski",
}
PHOTOMETRY = {
    "obj_id": "A",
    "stream_ids": [1],
    "instrument_id": 1,
    "mjd": [59000.0, 59001.0],
    "flux": [100.0, None],
    "fluxerr": [5.0, 6.0],
    "zp": [23.9, 23.9],
    "magsys": ["ab", "ab"],
    "filter": ["ztfg", "ztfr"],
    "ra": [1.0, None],
    "dec": [2.0, None],
    "origin": ["alert_fp", "alert_fp"],
}
SOURCE = {"id": "A", "group_ids": [1, 2], "origin": "Kowalski"}
FOLLOWUP = {"obj_id": "A", "allocation_id": 5, "payload": {"priority": 3}, "target_group_ids": [1]}
ANNOTATION = {"obj_id": "A", "origin": "g:f", "data": {"x": 1}, "group_ids": [1]}


def picture(side: int = 168, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(build(tmp_path / "state.jsonl", token="t")), headers=HEADERS) as client:
        yield client


async def answer(client: TestClient[Any, Any], method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path, json=body) as response:
        return response.status, await response.json()


async def test_takes_what_is_right(client: TestClient[Any, Any]) -> None:
    for method, path, body in (
        ("POST", "/api/candidates", CANDIDATE),
        ("PUT", "/api/photometry", PHOTOMETRY),
        ("POST", "/api/sources/A/annotations", ANNOTATION),
        ("PUT", "/api/sources/A/annotations/1", ANNOTATION | {"author_id": 1}),
        ("POST", "/api/thumbnail", {"obj_id": "A", "data": picture(), "ttype": "new"}),
    ):
        status, content = await answer(client, method, path, body)
        assert (status, content["status"]) == (200, "success"), content


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/candidates", CANDIDATE | {"passed_at": "yesterday"}),
        ("POST", "/api/candidates", CANDIDATE | {"ra": "12"}),
        ("POST", "/api/candidates", CANDIDATE | {"filter_ids": []}),
        ("POST", "/api/candidates", CANDIDATE | {"extra": 1}),
        ("PUT", "/api/photometry", PHOTOMETRY | {"flux": [1.0]}),
        ("PUT", "/api/photometry", PHOTOMETRY | {"fluxerr": [1.0, None]}),
        ("PUT", "/api/photometry", PHOTOMETRY | {"obj_id": "unknown"}),
        ("POST", "/api/sources/A/annotations", ANNOTATION | {"data": {}}),
        ("POST", "/api/sources/B/annotations", ANNOTATION | {"obj_id": "B"}),
        ("PUT", "/api/sources/A/annotations/99", ANNOTATION | {"author_id": 1}),
        ("POST", "/api/thumbnail", {"obj_id": "A", "data": picture(8), "ttype": "new"}),
        ("POST", "/api/thumbnail", {"obj_id": "A", "data": picture(168, "JPEG"), "ttype": "new"}),
        ("POST", "/api/thumbnail", {"obj_id": "A", "data": "no picture", "ttype": "new"}),
        ("POST", "/api/thumbnail", {"obj_id": "A", "data": picture(), "ttype": "other"}),
        ("POST", "/api/candidates", CANDIDATE | {"filter_ids": [5000]}),
        ("PUT", "/api/photometry", PHOTOMETRY | {"stream_ids": [99]}),
        ("PUT", "/api/photometry", PHOTOMETRY | {"instrument_id": 99}),
        ("POST", "/api/sources", SOURCE | {"id": "unknown"}),
        ("POST", "/api/sources", SOURCE | {"group_ids": [1, 5000]}),
        ("POST", "/api/sources", SOURCE | {"ignore_if_in_group_ids": {"7": [1]}}),
        ("POST", "/api/sources/A/comments", {"text": "", "group_ids": [1]}),
        ("POST", "/api/sources/A/comments", {"text": "x", "group_ids": [5000]}),
        ("POST", "/api/sources/B/comments", {"text": "x", "group_ids": [1]}),
        ("POST", "/api/followup_request", FOLLOWUP | {"allocation_id": 5000}),
        ("POST", "/api/followup_request", FOLLOWUP | {"obj_id": "unknown"}),
        ("POST", "/api/followup_request", FOLLOWUP | {"payload": "IFU"}),
        ("GET", "/api/groups/5000", None),
        ("POST", "/_fake/faults", {"rules": [{"status": 200}]}),
        ("POST", "/_fake/faults", {}),
    ],
)
async def test_refuses_what_is_wrong(client: TestClient[Any, Any], method: str, path: str, body: Any) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    before = await answer(client, "GET", "/_fake/state")
    status, content = await answer(client, method, path, body)
    assert 400 <= status < 500
    assert content["status"] == "error"
    after = await answer(client, "GET", "/_fake/state")
    assert {**after[1], "calls": None} == {**before[1], "calls": None}


async def test_a_repeated_candidate_is_refused_as_a_whole(client: TestClient[Any, Any]) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    status, content = await answer(client, "POST", "/api/candidates", CANDIDATE | {"filter_ids": [3, 2]})
    assert status == 400
    assert "duplicate key value violates unique constraint" in content["message"]
    again = CANDIDATE | {"passed_at": "2026-03-01T00:00:00.001"}
    assert (await answer(client, "POST", "/api/candidates", again))[0] == 200
    _, state = await answer(client, "GET", "/_fake/state")
    assert [each["filter_id"] for each in state["candidates"]] == [1, 2, 1, 2]


def test_photometry_is_kept_once() -> None:
    memory = Memory()
    memory.positions["A"] = 1.0, 2.0
    given = Photometry.model_validate(PHOTOMETRY)
    brighter = Photometry.model_validate(PHOTOMETRY | {"flux": [200.0, 70.0]})
    assert memory.add_photometry(given, ignore_flux=True, overwrite=True)["new"] == 2
    assert memory.add_photometry(brighter, ignore_flux=True, overwrite=True)["new"] == 0
    assert [each["flux"] for each in memory.photometry.values()] == [200.0, 70.0]
    assert memory.add_photometry(given, ignore_flux=False, overwrite=False)["new"] == 2
    assert memory.add_photometry(given, ignore_flux=False, overwrite=False)["new"] == 0


async def test_a_wrong_token(client: TestClient[Any, Any]) -> None:
    async with client.get("/api/streams", headers={"Authorization": "token other"}) as response:
        assert response.status == 401


async def test_faults_are_followed_as_often_as_said(client: TestClient[Any, Any]) -> None:
    rules = [{"path": "/api/streams", "status": 503, "retry_after": 2, "times": 2}]
    await answer(client, "POST", "/_fake/faults", {"rules": rules})
    async with client.get("/api/streams") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert [(await answer(client, "GET", "/api/streams"))[0] for _ in range(3)] == [503, 200, 200]


async def test_heads_of_objects(client: TestClient[Any, Any]) -> None:
    async def heads() -> list[int]:
        found = []
        for kind in ("candidates", "sources"):
            async with client.head(f"/api/{kind}/A") as response:
                found.append(response.status)
        return found

    assert await heads() == [404, 404]
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    assert await heads() == [200, 404]
    await answer(client, "POST", "/api/sources", SOURCE)
    assert await heads() == [200, 200]


async def test_sources_are_saved_once_and_not_against_the_wish_of_a_group(client: TestClient[Any, Any]) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    _, saved = await answer(client, "POST", "/api/sources", SOURCE | {"saver_per_group_id": {"2": 7}})
    assert saved["data"]["saved_to_groups"] == [1, 2]
    ignoring = {"id": "A", "group_ids": [3, 4], "ignore_if_in_group_ids": {"3": [2], "4": [5]}}
    _, saved = await answer(client, "POST", "/api/sources", ignoring)
    assert saved["data"]["saved_to_groups"] == [4]
    await answer(client, "POST", "/api/sources", SOURCE)
    _, groups = await answer(client, "GET", "/api/sources/A/groups")
    assert [group["id"] for group in groups["data"]] == [1, 2, 4]
    _, state = await answer(client, "GET", "/_fake/state")
    assert {key: one["saved_by"] for key, one in state["sources"].items()} == {"A|1": 1, "A|2": 7, "A|4": 1}


async def test_comments_are_kept_as_often_as_they_come(client: TestClient[Any, Any]) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    for _ in range(2):
        assert (await answer(client, "POST", "/api/sources/A/comments", {"text": "new", "group_ids": [1]}))[0] == 200
    _, found = await answer(client, "GET", "/api/sources/A/comments")
    assert [(each["text"], each["groups"]) for each in found["data"]] == [("new", [{"id": 1}])] * 2


@pytest.mark.parametrize(
    ("facts", "conditions", "reason"),
    [
        ({}, {"source_group_ids": [1, 9]}, "source_group_ids"),
        ({}, {"ignore_source_group_ids": [2]}, "ignore_source_group_ids"),
        ({"classified": True}, {"not_if_classified": True}, "classified"),
        ({"spectra": True}, {"not_if_spectra_exist": True}, "spectroscopically"),
        ({"tns_name": "SN 2020oi"}, {"not_if_tns_classified": True}, "TNS"),
        ({"tns_reported_hours": 5.0}, {"not_if_tns_reported": 4.0}, "reported"),
        ({}, {"not_if_duplicates": True, "allocation_id": 6, "ignore_allocation_ids": [5]}, "already a follow-up"),
    ],
)
async def test_conditions_of_a_follow_up_request(
    client: TestClient[Any, Any], facts: dict[str, Any], conditions: dict[str, Any], reason: str
) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    await answer(client, "POST", "/api/sources", SOURCE)
    await answer(client, "POST", "/_fake/objects/A", facts)
    _, first = await answer(client, "POST", "/api/followup_request", FOLLOWUP)
    assert first["data"] == {"id": 1, "request_status": "submitted"}
    status, ignored = await answer(client, "POST", "/api/followup_request", FOLLOWUP | conditions)
    assert status == 200
    assert (ignored["data"]["id"], ignored["data"]["ignored"]) == (None, True)
    assert reason in ignored["data"]["message"]
    _, page = await answer(client, "GET", "/api/followup_request?sourceID=A")
    assert page["data"]["totalMatches"] == 1


async def test_a_request_near_by_is_a_duplicate(client: TestClient[Any, Any]) -> None:
    for name, ra in (("A", 1.0), ("B", 1.0 + 0.3 / 3600), ("C", 1.0 + 3.0 / 3600)):
        await answer(client, "POST", "/api/candidates", CANDIDATE | {"id": name, "ra": ra})
    outcomes = []
    for name in ("A", "B", "C"):
        body = FOLLOWUP | {"obj_id": name, "not_if_duplicates": True}
        outcomes.append((await answer(client, "POST", "/api/followup_request", body))[1]["data"].get("ignored", False))
    assert outcomes == [False, True, False]


async def test_what_becomes_of_a_request(client: TestClient[Any, Any]) -> None:
    await answer(client, "POST", "/api/candidates", CANDIDATE)
    await answer(client, "POST", "/_fake/allocations", {"id": 5, "implements_update": False, "needs": ["priority"]})
    assert (await answer(client, "POST", "/api/followup_request", FOLLOWUP | {"payload": {}}))[0] == 400
    await answer(client, "POST", "/api/followup_request", FOLLOWUP)
    change = {"obj_id": "A", "allocation_id": 5, "payload": {"priority": 4}}
    status, refused = await answer(client, "PUT", "/api/followup_request/1", change)
    assert (status, refused["message"]) == (400, "Cannot update requests on this instrument.")
    await answer(client, "POST", "/_fake/allocations", {"id": 5})
    assert (await answer(client, "PUT", "/api/followup_request/1", change))[0] == 200
    assert (await answer(client, "PUT", "/api/followup_request/2", change))[0] == 400
    await answer(client, "POST", "/_fake/followups/1", {"status": "completed"})
    _, page = await answer(client, "GET", "/api/followup_request?sourceID=A")
    (request,) = page["data"]["followup_requests"]
    assert (request["status"], request["payload"], request["updates"]) == ("completed", {"priority": 4}, 1)


def test_as_a_program_it_survives_being_killed(tmp_path: Path) -> None:
    (port,) = services.free_ports(1)
    command = [sys.executable, "-m", "kowalski.testing.skyportal", "--port", str(port), "--state", "state.jsonl"]
    command[-1] = str(tmp_path / command[-1])
    program = services.Process("skyportal", command, {}, tmp_path / "log")
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers=HEADERS, transport=httpx.HTTPTransport(retries=0)) as client:
        try:
            states = []
            for status in (200, 400):
                program.start()
                wait_for(client)
                assert client.post("/api/candidates", json=CANDIDATE).status_code == status
                states.append(client.get("/_fake/state").json()["candidates"])
                program.kill()
        finally:
            program.stop()
    assert states[0] == states[1]
    assert len(states[0]) == 2


def wait_for(client: httpx.Client, patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            client.get("/_fake/state")
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
