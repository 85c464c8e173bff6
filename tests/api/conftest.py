"""A running API with a few alerts in its archive, and users to ask it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from bson import json_util
from pymongo import MongoClient

from kowalski.api.app import create_app
from kowalski.archive import indexes
from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.runtime import programs
from kowalski.surveys import get
from kowalski.testing import services

CANDID = 1105522281015015000
"""Beyond 2**53: exact as an integer only."""


@dataclass(frozen=True, slots=True)
class Api:
    """A server and how to reach it."""

    settings: Settings
    url: str

    def token(self, name: str = "admin", password: str = "admin") -> str:
        answer = httpx.post(f"{self.url}/api/auth", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def client(self, name: str = "admin", password: str = "admin") -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": self.token(name, password)}, timeout=30)


def alert(number: int) -> dict[str, Any]:
    """An alert near RA 150 + number, Dec 20."""
    ra = 150.0 + number
    candidate = {"jd": 2460000.5 + number, "ra": ra, "dec": 20.0, "magpsf": 18.0 + 0.1 * number, "programid": 1}
    return {
        "_id": CANDID + number,
        "candid": CANDID + number,
        "objectId": f"ZTF23aaaaaa{number % 5}",
        "schemavsn": "4.02",
        "candidate": {**candidate, "drb": number / 10},
        "classifications": {"braai": number / 10},
        "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, 20.0]}},
        "cutoutScience": {"fileName": "s.fits.gz", "stampData": bytes(range(64))},
    }


def run(settings: Settings) -> Iterator[Api]:
    """Run gunicorn as ``up`` does."""
    program = programs.api(settings)
    env = {**program.environment, **services.environment(settings)}
    process = services.Process("api", list(program.command), env, settings.path.run / "logs" / "api.log")
    process.start()
    url = f"http://127.0.0.1:{settings.server.port}"
    deadline = time.monotonic() + 60
    try:
        while True:
            process.check()
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline, "the API does not start"
            time.sleep(0.2)
        yield Api(settings, url)
    finally:
        process.stop(10)


@pytest.fixture
def archive(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Settings:
    """An archive with ten alerts and ten stars."""
    fill(mongo, settings)
    return settings


def fill(mongo: MongoClient[dict[str, Any]], settings: Settings) -> None:
    """Store ten alerts and ten stars."""
    data = data_database(mongo, settings)
    indexes.ensure(data, settings, get("ZTF"))
    data["ZTF_alerts"].insert_many([alert(number) for number in range(10)])
    data["Gaia_EDR3"].insert_many([{"_id": i, "mag": i, "coordinates": alert(i)["coordinates"]} for i in range(10)])
    data["Gaia_EDR3"].create_index([("coordinates.radec_geojson", "2dsphere")])


@pytest.fixture(scope="module")
def served(new_archive: Any) -> Iterator[Api]:
    """Like `api`, for all tests of a module; they must leave it as it was."""
    archive = new_archive()
    fill(archive.mongo, archive.settings)
    yield from run(archive.settings)


@pytest.fixture
def api(archive: Settings) -> Iterator[Api]:
    """The API as ``up`` starts it."""
    archive.server.processes = 1
    yield from run(archive)


@pytest.fixture(scope="session")
def run_api() -> Any:
    """How to run the API of settings that a test has changed: ``for api in run_api(settings): ...``."""
    return run


class Asker:
    """The API in this process, asked by one user or by nobody."""

    def __init__(self, client: TestClient[Any, Any], token: str | None = None) -> None:
        self.http = client
        self.token = token

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
        """Send a request and give the status and the body, which is always a JSON object."""
        headers = {**({"Authorization": self.token} if self.token else {}), **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        async with self.http.request(method, path, headers=headers, allow_redirects=False, **options) as answer:
            assert answer.content_type == "application/json", await answer.text()
            content = json_util.loads(await answer.text())
            if content.get("status") == "error":  # so that tests can say what the rest is
                assert content.pop("request_id") == answer.headers["X-Request-ID"]
            return answer.status, content

    async def query(self, kind: str, query: dict[str, Any], **kwargs: Any) -> tuple[int, dict[str, Any]]:
        return await self("POST", "/api/queries", {"query_type": kind, "query": query, "kwargs": kwargs})

    async def log_in(self, name: str, password: str) -> Asker:
        status, answer = await self("POST", "/api/auth", {"username": name, "password": password})
        assert status == 200, answer
        return Asker(self.http, answer["token"])


@pytest.fixture
async def nobody(archive: Settings) -> AsyncIterator[Asker]:
    """The API asked without a token."""
    async with TestClient(TestServer(create_app(archive))) as client:
        yield Asker(client)


@pytest.fixture
async def admin(nobody: Asker) -> Asker:
    return await nobody.log_in("admin", "admin")


@pytest.fixture
async def user(admin: Asker) -> Asker:
    """A user who is not the administrator."""
    status, answer = await admin("POST", "/api/users", {"username": "vera", "password": "rubin"})
    assert status == 200, answer
    return await admin.log_in("vera", "rubin")
