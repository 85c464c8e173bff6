"""``/docs/api/``: the API's description, for people and for programs; nothing on the page comes from elsewhere.

The page is Swagger UI, of which a package brings the files.
"""

from __future__ import annotations

import html
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import web

from kowalski.api import extjson
from kowalski.api.errors import NotFoundError
from kowalski.api.routes import Access, Route

DESCRIPTION = web.AppKey("description", dict[str, Any])
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)
DAY = {"Cache-Control": "public, max-age=86400"}

FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon-32x32.png": "image/png"}
START = "start.js"
SCRIPT = """\
SwaggerUIBundle({
  url: "swagger.json",
  dom_id: "#description",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: true,
  defaultModelsExpandDepth: 0,
});
"""
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="stylesheet" href="static/swagger-ui.css">
<link rel="icon" type="image/png" href="static/favicon-32x32.png">
</head>
<body>
<div id="description"></div>
<noscript><a href="swagger.json">OpenAPI document</a></noscript>
<script src="static/swagger-ui-bundle.js"></script>
<script src="static/start.js"></script>
</body>
</html>
"""


async def specification(request: web.Request) -> web.Response:
    """Give the OpenAPI document."""
    return web.Response(body=extjson.dumps(request.app[DESCRIPTION]), content_type="application/json")


async def page(request: web.Request) -> web.Response:
    """Give the description as a page."""
    info = request.app[DESCRIPTION]["info"]
    text = PAGE.format(title=html.escape(f"{info['title']} {info['version']}"))
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": POLICY})


async def static(request: web.Request) -> web.StreamResponse:
    """Give a file that belongs to the page."""
    name = request.match_info["name"]
    if name == START:
        return web.Response(text=SCRIPT, content_type="text/javascript", headers=DAY)
    if name not in FILES:
        raise NotFoundError("Not Found")
    return web.FileResponse(_assets() / name, headers={**DAY, "Content-Type": FILES[name]})


async def to_page(request: web.Request) -> web.Response:
    """Send who forgot the slash to the page."""
    return web.Response(status=301, headers={"Location": "/docs/api/"})


@cache
def _assets() -> Path:
    """Folder of Swagger UI's files; the package's own code is not needed, so it is not imported."""
    package = find_spec("swagger_ui")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the package swagger-ui-py is not installed")
    return Path(package.submodule_search_locations[0]) / "static"


ROUTES = (
    Route(
        "GET",
        "/docs/api/",
        page,
        Access.PUBLIC,
        "service",
        "Show this description as a page",
        produces={"text/html": "Swagger UI."},
    ),
    Route(
        "GET",
        "/docs/api/swagger.json",
        specification,
        Access.PUBLIC,
        "service",
        "Get this description (OpenAPI)",
        produces={"application/json": "An OpenAPI 3.1 document."},
    ),
    Route(
        "GET",
        "/docs/api/static/{name}",
        static,
        Access.PUBLIC,
        "service",
        "Files of the page",
        produces={"text/css": "Style.", "text/javascript": "Scripts.", "image/png": "Icon."},
        errors={404: "no such file"},
        parameters={"name": {"enum": [*FILES, START]}},
    ),
)
