"""An entry in the audit for every change that a request has made."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from kowalski.api import services
from kowalski.api.context import ADDRESS, REQUEST_ID, USER
from kowalski.archive import audit
from kowalski.archive.audit import Entry

NOTES = web.RequestKey("notes", dict[str, Any])


def note(request: web.Request, **details: Any) -> None:
    """Say more about the change that a request makes; a request with a note is a change, whatever its route."""
    request[NOTES] = request.get(NOTES, {}) | details


async def record(request: web.Request) -> None:
    """Add an entry for a request that has changed something."""
    work = services.of(request)
    entry = Entry(
        user=request[USER].name,
        action=f"{request.method} {request.path}",
        details=request.get(NOTES, {}),
        address=request[ADDRESS],
        request=request[REQUEST_ID],
    )
    await audit.record(work.system, entry, work.settings.server.audit_days)
