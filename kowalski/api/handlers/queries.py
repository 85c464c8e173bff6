"""``/api/queries``: everything that is asked of the archive."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, audit, bodies, results, services
from kowalski.api.context import USER
from kowalski.api.formats import envelope
from kowalski.api.queries import Archive, DropQuery, Query, QueryAnswer
from kowalski.api.routes import Access, Route


async def run(request: web.Request) -> web.StreamResponse:
    """Run a query."""
    query = (await bodies.read(request, Query)).root
    if isinstance(query, DropQuery):
        audit.note(request, dropped=query.query.catalog)
    archive = Archive(services.of(request), request[USER])
    result = await query.run(archive)
    async with results.closing(result):
        return await answers.stream(request, envelope.pieces(query.message, result, archive.encoder()))


ROUTES = (
    Route(
        "POST",
        "/api/queries",
        run,
        Access.USER,
        "queries",
        "Query the archive",
        "Answers are relaxed Extended JSON. Unknown keys in `query` and `kwargs` are ignored.",
        request=Query,
        response=QueryAnswer,
        errors={403: "the query is for administrators"},
        writes=False,
    ),
)
