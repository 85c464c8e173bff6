"""What is known of a request before its handler gets it."""

from __future__ import annotations

from aiohttp import web

from kowalski.archive.users import User

USER = web.RequestKey("user", User)
"""Who asks; missing where a route is open to anybody."""
REQUEST_ID = web.RequestKey("request_id", str)
"""What the request is called in logs, in the audit and in answers."""
ADDRESS = web.RequestKey("address", str)
"""Where it comes from, past the proxies of this instance."""
