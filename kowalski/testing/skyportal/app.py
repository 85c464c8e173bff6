"""Routes of the fake SkyPortal over its memory, and the journal that lets it survive restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from kowalski.testing.skyportal import shapes
from kowalski.testing.skyportal.faults import Fault, Faults, Handler
from kowalski.testing.skyportal.followups import Followups
from kowalski.testing.skyportal.memory import INSTRUMENTS, STREAMS, Memory, Record, Rejected

LARGEST = 64 * 1024 * 1024
"""Largest body, bytes."""


class State:
    """All that a SkyPortal holds."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.followups = Followups(self.memory)

    def as_json(self) -> Record:
        """Give everything in a form that JSON can hold."""
        return {**self.memory.as_json(), "followups": list(self.followups.requests.values())}


def _photometry(state: State, given: shapes.Photometry, query: Record) -> Record:
    flags = {name: query.get(name, "").lower() == "true" for name in ("duplicate_ignore_flux", "overwrite_flux")}
    return state.memory.add_photometry(
        given, ignore_flux=flags["duplicate_ignore_flux"], overwrite=flags["overwrite_flux"]
    )


Write = Callable[[State, Any, Record], Record]

WRITES: dict[tuple[str, str], tuple[type[BaseModel], Write]] = {
    ("POST", "/api/candidates"): (shapes.Candidate, lambda state, given, _: state.memory.add_candidate(given)),
    ("POST", "/api/sources"): (
        shapes.Source,
        lambda state, given, query: state.memory.add_source(given, query["now"]),
    ),
    ("POST", "/api/sources/{obj_id}/annotations"): (
        shapes.Annotation,
        lambda state, given, _: state.memory.add_annotation(given),
    ),
    ("PUT", "/api/sources/{obj_id}/annotations/{number}"): (
        shapes.AnnotationUpdate,
        lambda state, given, query: state.memory.update_annotation(int(query["number"]), given),
    ),
    ("POST", "/api/sources/{obj_id}/comments"): (
        shapes.Comment,
        lambda state, given, query: state.memory.add_comment(query["obj_id"], given),
    ),
    ("PUT", "/api/photometry"): (shapes.Photometry, _photometry),
    ("POST", "/api/thumbnail"): (shapes.Thumbnail, lambda state, given, _: state.memory.add_thumbnail(given)),
    ("POST", "/api/followup_request"): (
        shapes.Followup,
        lambda state, given, query: state.followups.add(given, query["now"]),
    ),
    ("PUT", "/api/followup_request/{number}"): (
        shapes.FollowupChange,
        lambda state, given, query: state.followups.update(int(query["number"]), given, query["now"]),
    ),
    ("POST", "/_fake/groups"): (shapes.Group, lambda state, given, _: state.memory.add_group(given)),
    ("POST", "/_fake/allocations"): (
        shapes.Allocation,
        lambda state, given, _: state.followups.add_allocation(given),
    ),
    ("POST", "/_fake/objects/{obj_id}"): (
        shapes.Facts,
        lambda state, given, query: state.memory.add_facts(query["obj_id"], given),
    ),
    ("POST", "/_fake/followups/{number}"): (
        shapes.RequestStatus,
        lambda state, given, query: state.followups.set_status(int(query["number"]), given, query["now"]),
    ),
}
"""(method, route) -> shape of the body, and what is done with it."""

Read = Callable[[State, Record], Any]

READS: dict[str, Read] = {
    "/api/instrument": lambda _, query: [
        each for each in _numbered(INSTRUMENTS) if query.get("name") in (None, each["name"])
    ],
    "/api/streams": lambda *_: _numbered(STREAMS),
    "/api/groups/{number}": lambda state, query: state.memory.group(int(query["number"])),
    "/api/sources": lambda state, query: state.memory.page_of_sources(query),
    "/api/sources/{obj_id}/annotations": lambda state, query: state.memory.annotations_of(query["obj_id"]),
    "/api/sources/{obj_id}/comments": lambda state, query: state.memory.comments_of(query["obj_id"]),
    "/api/sources/{obj_id}/groups": lambda state, query: [
        {"id": group, "name": f"group {group}", "active": True} for group in state.memory.groups_of(query["obj_id"])
    ],
    "/api/followup_request": lambda state, query: state.followups.page(query),
}
"""Route of a ``GET`` -> what it answers."""


class FakeSkyPortal:
    """Answers calls out of one `State`.

    Parameters
    ----------
    journal
        File that gets one line per accepted write and is read again at the start; None: nothing is kept.
    """

    def __init__(self, journal: Path | None = None) -> None:
        self.state = State()
        self.faults = Faults()
        self._journal: TextIO | None = None
        if journal is not None:
            self._replay(journal)
            self._journal = journal.open("a", encoding="utf-8")

    @property
    def memory(self) -> Memory:
        """What it holds besides follow-up requests."""
        return self.state.memory

    def _replay(self, journal: Path) -> None:
        if not journal.is_file():
            return
        for line in journal.read_text(encoding="utf-8").splitlines():
            method, route, body, query = json.loads(line)
            shape, write = WRITES[method, route]
            write(self.state, shape.model_validate(body), query)

    async def write(self, request: web.Request) -> web.Response:
        """Check a body, take it in, and put it on record before the answer."""
        route = _route(request)
        shape, write = WRITES[request.method, route]
        query = {**request.query, **request.match_info, "now": datetime.now(UTC).replace(tzinfo=None).isoformat()}
        try:
            body = json.loads(await request.text())
            result = write(self.state, shape.model_validate(body), query)
        except (json.JSONDecodeError, ValidationError) as error:
            return _error(f"Invalid/missing parameters: {error}", 400)
        except Rejected as error:
            return _error(str(error), error.status)
        if self._journal is not None:
            self._journal.write(json.dumps([request.method, route, body, query]) + "\n")
            self._journal.flush()
        return _success(result)

    async def read(self, request: web.Request) -> web.Response:
        """Answer a ``GET``."""
        query = {**request.query, **request.match_info}
        try:
            return _success(READS[_route(request)](self.state, query))
        except (Rejected, ValueError) as error:
            return _error(str(error), getattr(error, "status", 400))

    async def has_candidate(self, request: web.Request) -> web.Response:
        """Answer ``HEAD /api/candidates/{id}``."""
        return web.Response(status=200 if self.memory.has_candidate(request.match_info["obj_id"]) else 404)

    async def has_source(self, request: web.Request) -> web.Response:
        """Answer ``HEAD /api/sources/{id}``."""
        return web.Response(status=200 if self.memory.has_source(request.match_info["obj_id"]) else 404)

    async def dump(self, _: web.Request) -> web.Response:
        """Answer ``GET /_fake/state``."""
        return web.json_response(self.state.as_json())

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
    app.router.add_route("HEAD", "/api/candidates/{obj_id}", fake.has_candidate)
    app.router.add_route("HEAD", "/api/sources/{obj_id}", fake.has_source)
    app.router.add_get("/_fake/state", fake.dump)
    app.router.add_post("/_fake/faults", fake.set_faults)
    for route in READS:
        app.router.add_get(route, fake.read)
    for method, route in WRITES:
        app.router.add_route(method, route, fake.write)
    app.on_cleanup.append(fake.close)
    return app


def _numbered(names: tuple[str, ...]) -> list[Record]:
    return [{"id": at, "name": name} for at, name in enumerate(names, 1)]


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else request.path


def _success(data: Any) -> web.Response:
    return web.json_response({"status": "success", "data": data})


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"status": "error", "message": message, "data": {}}, status=status)
