"""A server that imitates those that watchers ask: it plays a script, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from kowalski.archive.client import data_database, system_database
from kowalski.archive.fetched import Memory
from kowalski.config import Settings
from kowalski.config.watchers import Watcher
from kowalski.watchers.base import Context

Answer = Callable[[web.Request], web.StreamResponse | Any]


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class Remote:
    """The server: what it says of each path, what it says first, and what it was asked."""

    url: str = ""
    pages: dict[str, bytes | Answer] = field(default_factory=dict)
    first: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    asked: list[Asked] = field(default_factory=list)

    def says_first(self, path: str, *answers: Answer) -> None:
        """Give these answers, one after the other, before the page itself."""
        self.first[path].extend(answers)

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append(Asked(request.method, request.path, dict(request.headers), form))
        if self.first[request.path]:
            answer: bytes | Answer = self.first[request.path].popleft()
        elif request.path in self.pages:
            answer = self.pages[request.path]
        else:
            return web.Response(status=404)
        if isinstance(answer, bytes):
            return whole(answer)(request)
        found = answer(request)
        return await found if asyncio.iscoroutine(found) else found


def whole(content: bytes, version: str = '"v1"') -> Answer:
    """Serve a file, or what a client lacks of it."""

    def answer(request: web.Request) -> web.StreamResponse:
        headers = {"ETag": version}
        if request.headers.get("If-None-Match") == version:
            return web.Response(status=304, headers=headers)
        asked = request.http_range.start
        if asked is not None and request.headers.get("If-Range") == version:
            if asked >= len(content):
                return web.Response(status=416)
            headers["Content-Range"] = f"bytes {asked}-{len(content) - 1}/{len(content)}"
            return web.Response(status=206, body=content[asked:], headers=headers)
        return web.Response(body=content, headers=headers)

    return answer


def broken_off(content: bytes, after: int, version: str = '"v1"') -> Answer:
    """Promise a whole file, and close the connection after some bytes of it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(content)), "ETag": version})
        await response.prepare(request)
        await response.write(content[:after])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def status(number: int, **headers: str) -> Answer:
    """Answer with a status and nothing else; underscores in headers' names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: web.Response(status=number, headers=named)


@pytest.fixture(scope="module")
def server() -> Iterator[Remote]:
    """The server's process is a thread; all tests of a module use it one after the other."""
    remote, ready, loop = Remote(), threading.Event(), asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", remote.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        remote.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield remote
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def remote(server: Remote) -> Remote:
    """The server as a test finds it: it knows no page, and was asked nothing."""
    server.pages.clear()
    server.first.clear()
    server.asked.clear()
    return server


@pytest.fixture
def waits() -> list[float]:
    """How long a watcher waited; in tests it does not wait, but says how long it would."""
    return []


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture
def watched(archive: Any, waits: list[float], tmp_path: Any) -> Iterator[Callable[..., Context[Any]]]:
    """Makes the context of a watcher; the databases are emptied afterwards."""
    settings: Settings = archive.settings.model_copy(deep=True)
    settings.path.data, settings.path.run = tmp_path / "data", tmp_path / "run"
    settings.watchers.keep_free_bytes = 0
    data, system = data_database(archive.mongo, settings), system_database(archive.mongo, settings)

    def make(name: str, **changes: Any) -> Context[Any]:
        own: Watcher = settings.watchers.all[name].model_copy(update={"requests_per_minute": None, **changes})
        setattr(settings.watchers, name, own)
        return Context(name, settings, own, data, system, Memory(system, name), waits.append, lambda text: None)

    yield make
    for database in (data, system):
        for collection in database.list_collection_names():
            database[collection].drop()
