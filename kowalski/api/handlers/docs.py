"""``/docs/api/``: the API's description, for people and for programs; nothing on the page comes from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

from aiohttp import web

from kowalski.api import extjson
from kowalski.api.routes import Access, Route

DESCRIPTION = web.AppKey("description", dict[str, Any])
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { background: #f4f4f4; padding: 0.7rem; overflow-x: auto; }
article { border-top: 1px solid #ccc; padding: 0.5rem 0; }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold; color: #0a5; }
.who { color: #777; font-size: 0.85em; }
summary { cursor: pointer; color: #06c; }
"""


async def specification(request: web.Request) -> web.Response:
    """Give the OpenAPI document."""
    return web.Response(body=extjson.dumps(request.app[DESCRIPTION]), content_type="application/json")


async def page(request: web.Request) -> web.Response:
    """Give the description as a page."""
    headers = {"Content-Security-Policy": POLICY}
    return web.Response(text=render(request.app[DESCRIPTION]), content_type="text/html", headers=headers)


async def to_page(request: web.Request) -> web.Response:
    """Send who forgot the slash to the page."""
    return web.Response(status=301, headers={"Location": "/docs/api/"})


def render(description: dict[str, Any]) -> str:
    """Write an OpenAPI document as HTML."""
    info = description["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [_schema(name, schema) for name, schema in sorted(description["components"]["schemas"].items())]
    title = html.escape(f"{info['title']} {info['version']}")
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{_text(info['description'])}</p><p><a href='/docs/api/swagger.json'>OpenAPI document</a></p>"
        f"<h2>Requests</h2>{''.join(operations)}<h2>Schemas</h2>{''.join(schemas)}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    who = "" if "security" in operation else " <span class='who'>no token needed</span>"
    body = operation.get("requestBody")
    request = f"<p>Body: {_reference(body)}</p>" if body else ""
    answers = "".join(
        f"<li><code>{status}</code> {_text(answer['description'])} {_reference(answer)}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<article><h3><span class='method'>{method.upper()}</span> <code>{html.escape(path)}</code>{who}</h3>"
        f"<p>{_text(operation['summary'])}. {_text(operation.get('description', ''))}</p>"
        f"{request}<ul>{answers}</ul></article>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = html.escape(json.dumps(schema, indent=2))
    return (
        f"<article id='{html.escape(name)}'><h3>{html.escape(name)}</h3><p>{_text(schema.get('description', ''))}</p>"
        f"<details><summary>JSON schema</summary><pre>{text}</pre></details></article>"
    )


def _reference(content: dict[str, Any]) -> str:
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    name = html.escape(str(schema.get("$ref", "")).rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>" if name else ""


def _text(text: str) -> str:
    """Escape a text; what stands in backquotes is code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


ROUTES = (
    Route("GET", "/docs/api/", page, Access.PUBLIC, "service", "Show this description as a page"),
    Route("GET", "/docs/api/swagger.json", specification, Access.PUBLIC, "service", "Get this description (OpenAPI)"),
)
