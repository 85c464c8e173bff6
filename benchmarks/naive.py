"""The worker that the API is compared with: the obvious way to write one.

It reads a whole answer into a list, encodes it with `bson.json_util.dumps` on the event loop, and sends one query per
position. It does less than the API (no sandbox, no permissions, no validation, no log) and runs in the same server
with the same driver, on the same database. ``gunicorn benchmarks.naive:create_app()`` serves it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jwt
from aiohttp import web
from bson import json_util
from pymongo.asynchronous.database import AsyncDatabase

from kowalski import config
from kowalski.api.queries import positions
from kowalski.archive.client import Document, Role, async_data_database, connect_async

DATA = web.AppKey("data", AsyncDatabase[Document])
KEY = web.AppKey("key", str)


def create_app() -> web.Application:
    """Build the application for the instance that ``KOWALSKI_CONFIG`` names."""
    settings = config.load().settings
    app = web.Application(client_max_size=settings.server.client_max_size)

    async def connected(app: web.Application) -> AsyncIterator[None]:
        client = connect_async(settings, Role.READER)
        app[DATA] = async_data_database(client, settings)
        app[KEY] = settings.server.jwt_secret_key or ""
        yield
        await client.close()

    app.cleanup_ctx.append(connected)
    app.router.add_get("/", ping)
    app.router.add_post("/api/queries", answer)
    return app


async def ping(request: web.Request) -> web.Response:
    """Greet a user."""
    _identify(request)
    return _json({"status": "success", "message": "greetings"})


async def answer(request: web.Request) -> web.Response:
    """Run a query."""
    _identify(request)
    body = await request.json()
    run = {"find": _find, "cone_search": _cone_search, "near": _near}[body["query_type"]]
    data = await run(request.app[DATA], body["query"], body.get("kwargs", {}))
    return _json({"status": "success", "message": "Successfully executed query", "data": data})


async def _find(data: AsyncDatabase[Document], query: Any, options: Any) -> Any:
    cursor = data[query["catalog"]].find(query["filter"], query.get("projection"), limit=options.get("limit", 0))
    return await cursor.to_list(None)


async def _cone_search(data: AsyncDatabase[Document], query: Any, options: Any) -> Any:
    asked = query["object_coordinates"]
    radius = asked["cone_search_radius"] * positions.RADIANS[asked["cone_search_unit"]]
    return await _around(
        data,
        query["catalogs"],
        asked["radec"],
        lambda point: {"$geoWithin": {"$centerSphere": [point, radius]}},
    )


async def _near(data: AsyncDatabase[Document], query: Any, options: Any) -> Any:
    furthest = query["max_distance"] * positions.RADIANS[query["distance_units"]]
    return await _around(
        data, query["catalogs"], query["radec"], lambda point: {"$nearSphere": point, "$maxDistance": furthest}
    )


async def _around(data: AsyncDatabase[Document], catalogs: Any, radec: Any, condition: Any) -> Any:
    found: dict[str, dict[str, Any]] = {}
    for catalog, part in catalogs.items():
        found[catalog] = {}
        for name, (ra, dec) in radec.items():
            match = {positions.FIELD: condition([ra - 180.0, dec]), **part.get("filter", {})}
            found[catalog][name] = await data[catalog].find(match, part.get("projection")).to_list(None)
    return found


def _identify(request: web.Request) -> None:
    jwt.decode(request.headers["Authorization"], request.app[KEY], algorithms=["HS256"])


def _json(body: Any) -> web.Response:
    return web.json_response(body, dumps=json_util.dumps)
