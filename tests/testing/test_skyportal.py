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
    for expected in (404, 200):
        for kind in ("candidates", "sources"):
            async with client.head(f"/api/{kind}/A") as response:
                assert response.status == expected
        await answer(client, "POST", "/api/candidates", CANDIDATE)


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
