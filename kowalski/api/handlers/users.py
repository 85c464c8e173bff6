"""``/api/users``: who may use this instance; for the administrator."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from pymongo.errors import DuplicateKeyError

from kowalski.api import answers, bodies, services
from kowalski.api.errors import ApiError, ConflictError
from kowalski.api.models.accounts import NewUser, UserChange
from kowalski.api.models.common import Done
from kowalski.api.routes import Access, Route
from kowalski.archive import users

log = logging.getLogger(__name__)


async def add(request: web.Request) -> web.Response:
    """Add a user; the same request sent again, after a lost answer, succeeds again."""
    work, new = services.of(request), await bodies.read(request, NewUser)
    hashed = await work.accounts.passwords.hash(new.password)
    if not await users.add(work.system, new.username, hashed, new.email, new.permissions):
        known = await users.get(work.system, new.username)
        same = known is not None and (known.email, dict(known.permissions)) == (new.email, new.permissions)
        if known is None or not same or not await work.accounts.passwords.matches(new.password, known.password):
            raise ConflictError(f"user {new.username} already exists")
    log.info("user %s added", new.username)
    return answers.success(f"added user {new.username}")


async def edit(request: web.Request) -> web.Response:
    """Change a user's name, password, e-mail or permissions."""
    work, name = services.of(request), request.match_info["username"]
    change = await bodies.read(request, UserChange)
    if name == work.settings.server.admin_username:
        if change.username and change.username != name:
            raise ApiError("cannot rename the superuser!")
        if change.password:
            raise ApiError("the superuser's password is set by server.admin_password")
    fields: dict[str, Any] = {
        key: getattr(change, key) for key in ("email", "permissions") if key in change.model_fields_set
    }
    hashed = await work.accounts.passwords.hash(change.password) if change.password else None
    try:
        found = await users.edit(work.system, name, rename=change.username or None, password=hashed, **fields)
    except DuplicateKeyError as error:
        raise ConflictError(f"user {change.username} already exists") from error
    if not found:
        raise ApiError(f"user {name} not found")
    work.accounts.forget(name)
    log.info("user %s edited", name)
    return answers.success(f"edited user {name}")


async def remove(request: web.Request) -> web.Response:
    """Remove a user, whose tokens end with that."""
    work, name = services.of(request), request.match_info["username"]
    if name == work.settings.server.admin_username:
        raise ApiError("cannot remove the superuser!")
    if not await users.remove(work.system, name):
        raise ApiError(f"user {name} not found")
    work.accounts.forget(name)
    log.info("user %s removed", name)
    return answers.success(f"removed user {name}")


NAME = {"username": {"type": "string"}}
ROUTES = (
    Route(
        "POST",
        "/api/users",
        add,
        Access.ADMIN,
        "users",
        "Add a user",
        request=NewUser,
        response=Done,
        errors={409: "there is another user of that name"},
    ),
    Route(
        "PUT",
        "/api/users/{username}",
        edit,
        Access.ADMIN,
        "users",
        "Change a user",
        request=UserChange,
        response=Done,
        errors={409: "the new name is taken"},
        parameters=NAME,
    ),
    Route(
        "DELETE",
        "/api/users/{username}",
        remove,
        Access.ADMIN,
        "users",
        "Remove a user",
        response=Done,
        parameters=NAME,
    ),
)
