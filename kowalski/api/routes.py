"""The table of routes: what `kowalski.api.app` serves and `kowalski.api.openapi` documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from kowalski.api import services
from kowalski.api.errors import ForbiddenError
from kowalski.archive.users import User

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

USER = web.RequestKey("user", User)


class Access(Enum):
    """Who may use a route."""

    PUBLIC = "anybody"
    USER = "users"
    ADMIN = "the administrator"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes
    ----------
    path
        As aiohttp takes it; a pattern in braces is left out of the documentation.
    request
        Model of the JSON body, if there is one.
    response
        Model of the successful answer; None if it is no JSON.
    errors
        Status -> when that is answered, beside what every route may answer.
    parameters
        Name of a path parameter -> its JSON schema.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    tag: str
    summary: str
    description: str = ""
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    errors: Mapping[int, str] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def guarded(route: Route) -> Handler:
    """Wrap a route's handler so that only those get to it who may."""
    if route.access is Access.PUBLIC:
        return route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        accounts = services.of(request).accounts
        user = await accounts.identify(request)
        if route.access is Access.ADMIN and not accounts.is_admin(user):
            raise ForbiddenError
        request[USER] = user
        return await route.handler(request)

    return handle
