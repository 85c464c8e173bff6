"""``/api/queries``: everything that is asked of the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from kowalski.api import audit, bodies, formats, leaving, results, services, streaming
from kowalski.api.context import USER
from kowalski.api.errors import UnsupportedMediaError
from kowalski.api.formats.tables import NotAcceptableError
from kowalski.api.models import examples
from kowalski.api.queries import Archive, ArchiveQuery, DropQuery, Query, QueryAnswer
from kowalski.api.queries.crossmatch import CrossmatchAnswer, CrossmatchQuery
from kowalski.api.results import Result
from kowalski.api.routes import Access, Route


async def run(request: web.Request) -> web.StreamResponse:
    """Run a query."""
    query = (await bodies.read(request, Query)).root
    if isinstance(query, DropQuery):
        audit.note(request, dropped=query.query.catalog)
    form = streaming.format_for(request)
    if form.is_table and not query.gives_documents:
        raise NotAcceptableError(f"{query.query_type} can't be answered with a table; ask for application/json")
    return await _answer(request, form, query.message, query.run)


async def crossmatch(request: web.Request) -> web.StreamResponse:
    """Match a table with a catalog."""
    from kowalski.api import uploads  # pyarrow: 50 MB of memory, which many instances never need

    query = bodies.read_query(request, CrossmatchQuery)
    form = streaming.format_for(request)
    if request.content_type not in TABLES:
        raise UnsupportedMediaError(f"Content-Type is {' or '.join(TABLES)}, not {request.content_type[:100]}")
    content = await request.read()
    wanted = uploads.Wanted(query.ra, query.dec, query.id)

    async def matched(archive: Archive) -> Result:
        most = archive.limits.max_table_rows
        table = await asyncio.to_thread(uploads.read, content, request.content_type, wanted, most)
        return await query.run(archive, table)

    return await _answer(request, form, ArchiveQuery.message, matched)


async def _answer(
    request: web.Request, form: formats.Format, message: str, ask: Callable[[Archive], Awaitable[Result]]
) -> web.StreamResponse:
    async with leaving.session(services.of(request).data.client) as session, leaving.noticed(request):
        archive = Archive(services.of(request), request[USER], session)
        result = await ask(archive)
        async with results.closing(result):
            return await streaming.send(request, form, message, result, archive.encoder())


TABLES = {"text/csv": examples.TABLE, "application/vnd.apache.parquet": ""}
"""Media types of tables that are taken, with an example where that is text."""

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
    Route(
        "POST",
        "/api/queries/crossmatch",
        crossmatch,
        Access.USER,
        "queries",
        "Match a table with a catalog",
        "The body is a table of up to `queries.max_table_rows` rows (100,000): CSV with a header line, or Parquet. The "
        "answer is a list of pairs, by row and then nearest first: `row` (from 0), `id` if a column was named, `ra`, "
        "`dec` (degrees), `separation` (arcsec) and `match`, the source; a row without a match has no pair. "
        "Positions are in degrees, or sexagesimal texts. A table with any row that has no position on the sky is "
        "refused. `Accept` and `Accept-Encoding` as for other queries.",
        query=CrossmatchQuery,
        consumes=TABLES,
        response=CrossmatchAnswer,
        produces=formats.ALTERNATIVES,
        answer=examples.MATCHED,
        errors={415: "the body is said to be neither CSV nor Parquet"},
        writes=False,
    ),
)
