"""``/api/auth``: a token for a name and a password."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, bodies, services
from kowalski.api.context import ADDRESS
from kowalski.api.models import examples
from kowalski.api.models.accounts import Login, Token
from kowalski.api.routes import Access, Route


async def log_in(request: web.Request) -> web.Response:
    """Give a token."""
    login = await bodies.read(request, Login)
    token = await services.of(request).accounts.log_in(login.username, login.password, request[ADDRESS])
    return answers.plain({"status": "success", "token": token})


ROUTES = (
    Route(
        "POST",
        "/api/auth",
        log_in,
        Access.PUBLIC,
        "users",
        "Log in",
        "The token goes into the header `Authorization`, with or without `Bearer` before it.",
        request=Login,
        response=Token,
        examples=examples.LOGIN,
        answer=examples.TOKEN,
        errors={
            401: "name or password is wrong",
            429: "too many attempts; see `Retry-After`",
            503: "the database is not available; see `Retry-After`",
        },
    ),
)
