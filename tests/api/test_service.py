"""What operators see of the API, and what it grants to browsers and to users who ask too often."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient

from kowalski.api.app import create_app
from kowalski.archive import counts
from kowalski.config import Settings
from kowalski.testing import services

SITE = "https://fritz.example.org"


@pytest.fixture
def allowed(settings: Settings) -> Settings:
    settings.server.cors_origins = [SITE]
    return settings


async def test_pages_of_an_allowed_site_may_read_answers(allowed: Settings, nobody: Any) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with nobody.http.options("/api/queries", headers={"Origin": SITE, **asks}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == SITE
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    async with nobody.http.get("/", headers={"Origin": SITE}) as answer:  # errors can be read, too
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, SITE)
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_pages_of_other_sites_may_not(allowed: Settings, nobody: Any) -> None:
    other = {"Origin": "https://fritz.example.org.evil.net", "Access-Control-Request-Method": "POST"}
    for method, status in (("OPTIONS", 405), ("GET", 401)):
        async with nobody.http.request(method, "/", headers=other) as answer:
            assert answer.status == status
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Vary"] == "Origin"


async def test_without_sites_nothing_is_said_about_them(nobody: Any) -> None:
    async with nobody.http.get("/", headers={"Origin": SITE}) as answer:
        assert not [name for name in answer.headers if name.startswith("Access-Control") or name == "Vary"]


async def test_a_user_who_asks_too_often_has_to_wait(
    archive: Settings, admin: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.server.requests_per_minute = 3
    minute = (time.time() // counts.WINDOW + 10) * counts.WINDOW + 20.0
    monkeypatch.setattr(counts.time, "time", lambda: minute)
    assert [(await user("GET", "/"))[0] for _ in range(5)] == [200] * 3 + [429] * 2
    async with user.http.get("/", headers={"Authorization": user.token}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "40")
        assert "more than 3 requests" in (await answer.json())["message"]
    assert [(await admin("GET", "/"))[0] for _ in range(5)] == [200] * 5
    monkeypatch.setattr(counts.time, "time", lambda: minute + counts.WINDOW)
    assert (await user("GET", "/"))[0] == 200


async def test_metrics_are_for_some_addresses(settings: Settings, archive: Settings) -> None:
    settings.server.metrics_networks = ["10.0.0.0/8"]
    settings.server.trusted_proxies = ["127.0.0.1"]
    async with TestClient(TestServer(create_app(archive))) as client:
        for address, status in ((None, 403), ("10.1.2.3", 200), ("11.1.2.3", 403)):
            headers = {} if address is None else {"X-Forwarded-For": address}
            async with client.get("/metrics", headers=headers) as answer:
                assert answer.status == status, address


async def test_without_a_database_the_api_is_alive_but_not_ready(
    nobody: Any, admin: Any, servers: services.Servers
) -> None:
    assert servers.mongod is not None
    assert (await nobody("GET", "/readyz"))[0] == 200
    servers.mongod.kill()
    try:
        async with nobody.http.get("/readyz") as refused:
            assert (refused.status, (await refused.json())["message"]) == (503, "the database is not available")
            assert int(refused.headers["Retry-After"]) > 0
        assert (await nobody("GET", "/healthz"))[0] == 200
    finally:
        servers.mongod.start()
    deadline = time.monotonic() + 60
    while (await nobody("GET", "/readyz"))[0] != 200:
        assert time.monotonic() < deadline, "the API does not find its database again"


def test_processes_count_together_and_log_every_request(
    archive: Settings, mongo: MongoClient[dict[str, Any]], run_api: Any
) -> None:
    archive.server.login_attempts_per_minute = 5
    archive.server.processes = 2
    for server in run_api(archive):
        with server.client() as client:
            for _ in range(40):  # over several connections, so that both processes get some
                assert httpx.get(f"{server.url}/nowhere").status_code == 404
            wrong = {"username": "vera", "password": "no"}
            minute = time.time() // counts.WINDOW
            tries = [httpx.post(f"{server.url}/api/auth", json=wrong).status_code for _ in range(12)]
            is_one_minute = time.time() // counts.WINDOW == minute
            refused = client.delete("/api/users/nobody", headers={"X-Request-ID": "night-17"})
            assert (refused.status_code, refused.json()["request_id"]) == (400, "night-17")
            figures = [httpx.get(f"{server.url}/metrics").text for _ in range(6)]
        log = (archive.path.run / "logs" / "api.log").read_text()
    assert set(tries) == {401, 429}
    assert tries.count(401) == 5 or not is_one_minute  # whichever process was asked
    for text in figures:  # whichever process answers
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for sample in samples
            if sample.name == "kowalski_api_requests_total"
        }
        assert counted["none", "404"] == 40
        assert counted["/api/users/{username}", "400"] == 1
        assert counted["/api/auth", "401"] == tries.count(401)
        assert sum(sample.value for sample in samples if sample.name == "kowalski_api_request_seconds_count") >= 54
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line["request"] == "night-17")
    expected = {"method": "DELETE", "path": "/api/users/nobody", "status": 400, "user": "admin", "address": "127.0.0.1"}
    assert {key: line[key] for key in expected} == expected
    assert line["logger"] == "kowalski.access"
    assert sum(line["path"] == "/nowhere" for line in lines) == 40
