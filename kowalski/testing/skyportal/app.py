"""Routes of the fake SkyPortal over its memory, and the journal that lets it survive restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from kowalski.testing.skyportal import shapes
from kowalski.testing.skyportal.faults import Fault, Faults, Handler
from kowalski.testing.skyportal.memory import INSTRUMENTS, STREAMS, Memory, Record, Rejected

LARGEST = 64 * 1024 * 1024
"""Largest body, bytes."""


def _photometry(memory: Memory, given: shapes.Photometry, query: Record) -> Record:
    flags = {name: query.get(name, "").lower() == "true" for name in ("duplicate_ignore_flux", "overwrite_flux")}
    return memory.add_photometry(given, ignore_flux=flags["duplicate_ignore_flux"], overwrite=flags["overwrite_flux"])


Write = Callable[[Memory, Any, Record], Record]

WRITES: dict[tuple[str, str], tuple[type[BaseModel], Write]] = {
    ("POST", "/api/candidates"): (shapes.Candidate, lambda memory, given, _: memory.add_candidate(given)),
    ("POST", "/api/sources/{obj_id}/annotations"): (
        shapes.Annotation,
        lambda memory, given, _: memory.add_annotation(given),
    ),
    ("PUT", "/api/sources/{obj_id}/annotations/{number}"): (
        shapes.AnnotationUpdate,
        lambda memory, given, query: memory.update_annotation(int(query["number"]), given),
    ),
    ("PUT", "/api/photometry"): (shapes.Photometry, _photometry),
    ("POST", "/api/thumbnail"): (shapes.Thumbnail, lambda memory, given, _: memory.add_thumbnail(given)),
    ("POST", "/_fake/groups"): (shapes.Group, lambda memory, given, _: memory.add_group(given)),
}
"""(method, route) -> shape of the body, and what the memory does with it."""


class FakeSkyPortal:
    """Answers calls out of one `Memory`.

    Parameters
    ----------
    journal
        File that gets one line per accepted write and is read again at the start; None: nothing is kept.
    """

    def __init__(self, journal: Path | None = None) -> None:
        self.memory = Memory()
        self.faults = Faults()
        self._journal: TextIO | None = None
        if journal is not None:
            self._replay(journal)
            self._journal = journal.open("a", encoding="utf-8")

    def _replay(self, journal: Path) -> None:
        if not journal.is_file():
            return
        for line in journal.read_text(encoding="utf-8").splitlines():
            method, route, body, query = json.loads(line)
            shape, write = WRITES[method, route]
            write(self.memory, shape.model_validate(body), query)

    async def write(self, request: web.Request) -> web.Response:
        """Check a body, take it in, and put it on record before the answer."""
        route = _route(request)
        shape, write = WRITES[request.method, route]
        query = {**request.query, **request.match_info}
        try:
            body = json.loads(await request.text())
            result = write(self.memory, shape.model_validate(body), query)
        except (json.JSONDecodeError, ValidationError) as error:
            return _error(f"Invalid/missing parameters: {error}", 400)
        except Rejected as error:
            return _error(str(error), error.status)
        if self._journal is not None:
            self._journal.write(json.dumps([request.method, route, body, query]) + "\n")
            self._journal.flush()
        return _success(result)

    async def has_object(self, request: web.Request) -> web.Response:
        """Answer ``HEAD`` for a candidate or source."""
        return web.Response(status=200 if self.memory.knows(request.match_info["obj_id"]) else 404)

    async def instruments(self, request: web.Request) -> web.Response:
        """Answer ``GET /api/instrument``."""
        found = [{"id": at, "name": name} for at, name in enumerate(INSTRUMENTS, 1)]
        wanted = request.query.get("name")
        return _success([each for each in found if wanted in (None, each["name"])])

    async def streams(self, _: web.Request) -> web.Response:
        """Answer ``GET /api/streams``."""
        return _success([{"id": at, "name": name} for at, name in enumerate(STREAMS, 1)])

    async def group(self, request: web.Request) -> web.Response:
        """Answer ``GET /api/groups/{id}``."""
        return _success(self.memory.group(int(request.match_info["number"])))

    async def annotations(self, request: web.Request) -> web.Response:
        """Answer ``GET /api/sources/{id}/annotations``."""
        try:
            return _success(self.memory.annotations_of(request.match_info["obj_id"]))
        except Rejected as error:
            return _error(str(error), error.status)

    async def state(self, _: web.Request) -> web.Response:
        """Answer ``GET /_fake/state``."""
        return web.json_response(self.memory.as_json())

    async def set_faults(self, request: web.Request) -> web.Response:
        """Answer ``POST /_fake/faults``."""
        try:
            self.faults.rules = TypeAdapter(list[Fault]).validate_python((await request.json())["rules"])
        except (json.JSONDecodeError, ValidationError, KeyError, TypeError) as error:
            return _error(f"rules must be a list of faults: {error}", 400)
        return _success({"rules": len(self.faults.rules)})

    async def close(self, _: web.Application) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()


def build(journal: Path | None = None, *, token: str | None = None) -> web.Application:
    """Make an application with a new `FakeSkyPortal`."""
    return application(FakeSkyPortal(journal), token=token)


def application(fake: FakeSkyPortal, *, token: str | None = None) -> web.Application:
    """Make the application that serves ``fake``; with ``token``, calls without it are answered with 401."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        if token is not None and request.headers.get("Authorization") != f"token {token}":
            return _error("Token invalid or missing", 401)
        if not request.headers.get("User-Agent", "").startswith("Kowalski "):
            return _error("User-Agent is not Kowalski's", 400)
        rule = fake.faults.choose(request.method, request.path)
        if rule is None or rule.status is None:
            fake.memory.calls[f"{request.method} {_route(request)}"] += 1
        return await (handler(request) if rule is None else fake.faults.follow(rule, request, handler))

    app = web.Application(middlewares=[guard], client_max_size=LARGEST)
    for kind in ("candidates", "sources"):
        app.router.add_route("HEAD", f"/api/{kind}/{{obj_id}}", fake.has_object)
    app.router.add_get("/api/instrument", fake.instruments)
    app.router.add_get("/api/streams", fake.streams)
    app.router.add_get(r"/api/groups/{number:\d+}", fake.group)
    app.router.add_get("/api/sources/{obj_id}/annotations", fake.annotations)
    app.router.add_get("/_fake/state", fake.state)
    app.router.add_post("/_fake/faults", fake.set_faults)
    for method, route in WRITES:
        app.router.add_route(method, route, fake.write)
    app.on_cleanup.append(fake.close)
    return app


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else request.path


def _success(data: Any) -> web.Response:
    return web.json_response({"status": "success", "data": data})


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"status": "error", "message": message, "data": {}}, status=status)
