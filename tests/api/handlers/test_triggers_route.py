"""Requests for observations, handed on to an observatory's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kowalski.config import Settings
from kowalski.testing import services

QUEUE: dict[str, Any] = {
    "queue_name": "ToO_1",
    "validity_window_mjd": [59000.0, 59000.5],
    "targets": [{"request_id": 1, "field_id": 600}],
    "queue_type": "list",
    "user": "provider",
    "note": "whatever else there is",
}
FIELDS: dict[str, Any] = {
    "trigger_name": "S1",
    "trigger_time": 59000.0,
    "fields": [{"field_id": 600}],
    "user": "provider",
}


class Observatory:
    """A server as the one at the telescope."""

    def __init__(self) -> None:
        self.queues: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.mood = "well"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((request.method, body))
        if self.mood == "slow":
            await asyncio.sleep(30)
        if self.mood == "broken":
            return web.Response(status=500, text="<html>no</html>")
        if self.mood == "talkative":
            return web.Response(body=bytes(11 << 20))
        name = body.get("queue_name") or body.get("trigger_name")
        if request.method == "GET":
            shown = [value for key, value in self.queues.items() if name in (None, key)]
            return web.Response(text="{") if self.mood == "stammering" else web.json_response(shown)
        if request.method == "DELETE":
            return web.Response(status=200 if self.queues.pop(name, None) else 404)
        if name in self.queues:
            return web.Response(status=200)
        self.queues[name] = body
        return web.Response(status=201, headers={"Queue-Number": "7"})


@pytest.fixture
async def observatory(archive: Settings) -> AsyncIterator[Observatory]:
    found = Observatory()
    app = web.Application()
    app.router.add_route("*", "/{path:queues|mma_skymaps}", found.handle)
    async with TestServer(app) as server:
        archive.triggers.timeout_seconds = 3.0
        for name, path in (("ztf", "queues"), ("ztfmma", "mma_skymaps")):
            archive.triggers.telescopes[name].url = str(server.make_url(f"/{path}"))
        yield found


CASES = (("ztf", QUEUE, "queue_name"), ("ztfmma", FIELDS, "trigger_name"))


async def test_requests_are_handed_on(observatory: Observatory, admin: Any) -> None:
    for name, body, key in CASES:
        path = f"/api/triggers/{name}"
        observatory.asked.clear()
        status, answer = await admin("PUT", path, body)
        assert (status, answer["message"], answer["data"]["queue-number"]) == (200, "submitted", "7")
        assert observatory.asked == [("PUT", body)]
        status, answer = await admin("PUT", path, body)
        assert (status, answer["status"]) == (409, "error")
        assert f"{body[key]} already exists" in answer["message"]
        selection = {key: body[key], "user": "provider"}
        for options in ({"body": selection}, {"params": selection}, {"params": selection, "data": b"no JSON"}):
            status, answer = await admin("GET", path, **options)
            assert (status, answer["message"], answer["data"]) == (200, "retrieved", [body])
        assert (await admin("GET", path, params={key: "other"}))[1]["data"] == []
        status, answer = await admin("DELETE", path, body)
        assert (status, answer) == (200, {"status": "success", "message": "deleted"})
        status, answer = await admin("DELETE", path, body)
        assert (status, "answered with 404" in answer["message"]) == (400, True)


async def test_names_for_trying_ask_nobody(observatory: Observatory, admin: Any) -> None:
    for name, body, key in CASES:
        path = f"/api/triggers/{name}.test"
        assert (await admin("PUT", path, body))[1]["message"] == "submitted"
        assert (await admin("DELETE", path, body))[1]["message"] == "deleted"
        answer = (await admin("GET", path))[1]
        assert (answer["message"], answer["data"]) == ("submitted", [{key: "test"}])
        assert (await admin("PUT", path, {"user": "provider"}))[0] == 400
    assert observatory.asked == []


async def test_an_observatory_that_is_not_well(observatory: Observatory, admin: Any) -> None:
    for mood, method, reason in (
        ("slow", "PUT", "has not answered within 3 s; it may have got the request all the same"),
        ("broken", "PUT", "answered with 500: <html>no</html>"),
        ("talkative", "GET", "larger than"),
        ("stammering", "GET", "not answered with JSON"),
    ):
        observatory.mood = mood
        observatory.asked.clear()
        status, answer = await admin(method, "/api/triggers/ztf", QUEUE)
        assert (status, answer["status"]) == (400, "error")
        assert reason in answer["message"]
        assert len(observatory.asked) == 1, "a request to a telescope was repeated"
        assert (await admin("GET", "/"))[0] == 200


async def test_what_is_refused(archive: Settings, admin: Any, user: Any, nobody: Any) -> None:
    status, answer = await admin("PUT", "/api/triggers/ztf", QUEUE)
    assert (status, "set triggers.telescopes.ztf.url" in answer["message"]) == (400, True)
    (port,) = services.free_ports(1)
    archive.triggers.telescopes["ztf"].url = f"http://127.0.0.1:{port}/queues"
    status, answer = await admin("PUT", "/api/triggers/ztf", QUEUE)
    assert (status, "can't be reached" in answer["message"]) == (400, True)
    for path, body, status in (
        ("/api/triggers/ztf", {**QUEUE, "targets": "all"}, 400),
        ("/api/triggers/ztf", {"queue_name": "x"}, 400),
        ("/api/triggers/ztf", {**QUEUE, "validity_window_mjd": [float("nan")]}, 400),
        ("/api/triggers/ztfmma", QUEUE, 400),
        ("/api/triggers/hale", QUEUE, 404),
        ("/api/triggers/hale.test", QUEUE, 404),
    ):
        assert (await admin("PUT", path, body))[0] == status, path
    for path in ("/api/triggers/ztf", "/api/triggers/ztf.test"):
        assert (await user("PUT", path, QUEUE))[0] == 403
        assert (await nobody("PUT", path, QUEUE))[0] == 401
