"""Which web pages of other sites may use the API from a browser (Cross-Origin Resource Sharing).

Tokens are sent in a header of their own, never as a cookie; so a page can do what somebody's token allows only if it
has been given the token.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

ANY = "*"
METHODS = "GET, POST, PUT, PATCH, DELETE"
SENT = "Accept, Authorization, Content-Type, If-None-Match, X-Request-ID"
READ = "Content-Disposition, ETag, Retry-After, X-Request-ID"
REMEMBERED = 3600
"""Seconds for which a browser need not ask again."""


def headers(request: web.Request, origins: Sequence[str]) -> dict[str, str]:
    """Find the headers that let a page read an answer; none where its site may not."""
    origin = request.headers.get("Origin")
    if not origins:
        return {}
    if origin is None or not (ANY in origins or origin in origins):
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": READ, "Vary": "Origin"}


def is_preflight(request: web.Request, origins: Sequence[str]) -> bool:
    """Tell whether a browser asks, before the request itself, whether a page may send it, and it may."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return asks and "Access-Control-Allow-Origin" in headers(request, origins)


def preflight() -> web.Response:
    """Tell a browser what a page may send."""
    allowed = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": SENT,
        "Access-Control-Max-Age": str(REMEMBERED),
    }
    return web.Response(status=204, headers=allowed)
