"""``/api/queries``: everything that is asked of the archive."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import audit, bodies, formats, leaving, results, services, streaming
from kowalski.api.context import USER
from kowalski.api.formats.tables import NotAcceptableError
from kowalski.api.models import examples
from kowalski.api.queries import Archive, DropQuery, Query, QueryAnswer
from kowalski.api.routes import Access, Route


async def run(request: web.Request) -> web.StreamResponse:
    """Run a query."""
    query = (await bodies.read(request, Query)).root
    if isinstance(query, DropQuery):
        audit.note(request, dropped=query.query.catalog)
    form = streaming.format_for(request)
    if form.is_table and not query.gives_documents:
        raise NotAcceptableError(f"{query.query_type} can't be answered with a table; ask for application/json")
    async with leaving.session(services.of(request).data.client) as session, leaving.noticed(request):
        archive = Archive(services.of(request), request[USER], session)
        result = await query.run(archive)
        async with results.closing(result):
            return await streaming.send(request, form, query.message, result, archive.encoder())


ROUTES = (
    Route(
        "POST",
        "/api/queries",
        run,
        Access.USER,
        "queries",
        "Query the archive",
        "Answers are relaxed Extended JSON. Unknown keys in `query` and `kwargs` are ignored. `Accept` may ask for "
        "`application/x-ndjson` (a document per line) and, where the answer is a list of documents, for `text/csv` or "
        "`application/vnd.apache.parquet`; `Accept-Encoding` for `zstd` or `gzip`.",
        request=Query,
        response=QueryAnswer,
        produces=formats.ALTERNATIVES,
        examples=examples.QUERIES,
        answer=examples.FOUND,
        errors={
            403: "the query is for administrators",
            406: "`Accept` asks for a table, and the answer is no list of documents",
        },
        writes=False,
    ),
)
