"""The web application: routes, middlewares and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from kowalski import config
from kowalski.api import middleware, openapi, services
from kowalski.api.handlers import (
    auth,
    classifications,
    cutouts,
    docs,
    filters,
    ping,
    queries,
    skymaps,
    status,
    triggers,
    users,
)
from kowalski.api.routes import Route, guarded
from kowalski.config import Settings
from kowalski.runtime import logs

ROUTES: tuple[Route, ...] = (
    *ping.ROUTES,
    *auth.ROUTES,
    *users.ROUTES,
    *queries.ROUTES,
    *filters.ROUTES,
    *skymaps.ROUTES,
    *cutouts.ROUTES,
    *classifications.ROUTES,
    *triggers.ROUTES,
    *status.ROUTES,
    *docs.ROUTES,
)
"""Everything the API serves. ``HEAD`` is not among it: clients have always got 405 for that."""


MAX_LINE = 64 * 1024
"""Bytes of a URL or a header. What is longer is refused before there is a request (`kowalski.api.protocol`)."""


def create_app(settings: Settings | None = None) -> web.Application:
    """Build the application.

    Parameters
    ----------
    settings
        Those of the instance; without them they are loaded, and logging is set up, as gunicorn needs it.
    """
    if settings is None:
        settings = config.load().settings
        logs.configure(settings)
    chosen = settings
    app = web.Application(
        middlewares=[middleware.observe, middleware.cross_origin, middleware.answer_errors],
        client_max_size=chosen.server.client_max_size,
        handler_args={"max_line_size": MAX_LINE, "max_field_size": MAX_LINE},
    )

    async def provided(app: web.Application) -> AsyncIterator[None]:
        async for _ in services.provide(app, chosen):
            yield

    app.cleanup_ctx.append(provided)
    app.on_response_prepare.append(middleware.add_headers)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, guarded(route))
    app.router.add_get("/docs/api", docs.to_page, allow_head=False)
    status.add_forms(app.router)
    app[docs.DESCRIPTION] = openapi.describe(ROUTES, chosen.server)
    return app
