"""``/`` and ``/healthz``: whether anybody is there."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, services
from kowalski.api.models.common import Greeting
from kowalski.api.routes import Access, Route


async def ping(request: web.Request) -> web.Response:
    """Greet whoever has a valid token."""
    return answers.success("greetings from Kowalski!")


async def healthy(request: web.Request) -> web.Response:
    """Say whether the API works: it answers, and so does its database."""
    await services.of(request).data.command("ping")
    return answers.success("healthy")


ROUTES = (
    Route("GET", "/", ping, Access.USER, "service", "Check a token", response=Greeting),
    Route(
        "GET",
        "/healthz",
        healthy,
        Access.PUBLIC,
        "service",
        "Check that API and database work",
        response=Greeting,
        errors={503: "the database does not answer"},
    ),
)
