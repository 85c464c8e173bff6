"""``/api/queries``: everything that is asked of the archive."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, bodies, queries, services
from kowalski.api.errors import UNENCODABLE, InvalidRequestError
from kowalski.api.models.queries import DropQuery, Query, QueryAnswer
from kowalski.api.queries import Archive
from kowalski.api.routes import USER, Access, Route


async def run(request: web.Request) -> web.StreamResponse:
    """Run a query."""
    query = (await bodies.read(request, Query)).root
    message = "Successfully dropped collection" if isinstance(query, DropQuery) else "Successfully executed query"
    try:
        pieces = await queries.answer(query, Archive(services.of(request), request[USER]))
        if pieces is None:
            return answers.success(message)
        return await answers.stream(request, message, pieces)
    except UNENCODABLE as error:
        raise InvalidRequestError(f"the query can't be sent to the database: {error}") from error


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
        errors={403: "the query is for the administrator", 413: "the request is too large"},
    ),
)
