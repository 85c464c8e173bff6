"""The table of routes: what `kowalski.api.app` serves and `kowalski.api.openapi` documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from kowalski.api import audit, services
from kowalski.api.context import USER
from kowalski.api.errors import ForbiddenError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Access(Enum):
    """Who may use a route."""

    PUBLIC = "anybody"
    USER = "users"
    ADMIN = "administrators"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes
    ----------
    path
        As aiohttp takes it; a pattern in braces is left out of the documentation.
    request
        Model of the JSON body, if there is one.
    query
        Model of the query string, one field per parameter; use it with `kowalski.api.bodies.read_query`.
    consumes
        Media type -> an example of the body, where that is no JSON.
    response
        Model of the successful answer; None if it is no JSON.
    produces
        Media type -> what it holds, where answers have others than JSON.
    errors
        Status -> when that is answered, beside what every route may answer.
    refusals
        Status -> model of that answer, where it is not `kowalski.api.models.common.Failure`.
    parameters
        Name of a path parameter -> its JSON schema.
    examples
        Name -> a request's body as an example.
    answer
        A successful answer as an example; without one, what the response's model always has.
    writes
        Whether the route changes something that an audit should show; by default what the method says.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    tag: str
    summary: str
    description: str = ""
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    consumes: Mapping[str, str] = field(default_factory=dict)
    response: type[BaseModel] | None = None
    produces: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    refusals: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = None
    writes: bool | None = None

    @property
    def is_write(self) -> bool:
        """Whether the route changes something."""
        return self.method in CHANGING if self.writes is None else self.writes


def guarded(route: Route) -> Handler:
    """Wrap a route's handler so that only those get to it who may, and what they change is in the audit."""
    if route.access is Access.PUBLIC:
        return route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        accounts = services.of(request).accounts
        user = await accounts.identify(request)
        request[USER] = user
        if not accounts.is_admin(user):
            if route.access is Access.ADMIN:
                raise ForbiddenError
            await accounts.throttle.ask(user.name)
        response = await route.handler(request)
        if response.status < 400 and (route.is_write or audit.NOTES in request):
            await audit.record(request)
        return response

    return handle
