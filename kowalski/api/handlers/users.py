"""``/api/users``: who may use this instance; for administrators."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from pymongo.errors import DuplicateKeyError

from kowalski.api import answers, bodies, services
from kowalski.api.errors import ApiError, ConflictError
from kowalski.api.models.accounts import NewUser, UserChange, UserList, UserRecord
from kowalski.api.models.common import Done
from kowalski.api.routes import Access, Route
from kowalski.archive import users

log = logging.getLogger(__name__)


async def show(request: web.Request) -> web.Response:
    """List all users."""
    work = services.of(request)
    found = [
        UserRecord(
            username=user.name,
            email=user.email,
            permissions=dict(user.permissions),
            role="admin" if work.accounts.is_admin(user) else "user",
            last_modified=user.last_modified,
        )
        async for user in users.listing(work.system)
    ]
    return answers.success(f"{len(found)} users", [record.model_dump(mode="json") for record in found])


async def add(request: web.Request) -> web.Response:
    """Add a user; the same request sent again, after a lost answer, succeeds again."""
    work, new = services.of(request), await bodies.read(request, NewUser)
    hashed = await work.accounts.passwords.hash(new.password)
    if not await users.add(work.system, new.username, hashed, new.email, new.permissions, new.role):
        known = await users.get(work.system, new.username)
        wanted = (new.email, new.permissions, new.role)
        same = known is not None and (known.email, dict(known.permissions), known.role) == wanted
        if known is None or not same or not await work.accounts.passwords.matches(new.password, known.password):
            raise ConflictError(f"user {new.username} already exists")
    log.info("user %s added", new.username)
    return answers.success(f"added user {new.username}")


async def edit(request: web.Request) -> web.Response:
    """Change a user's name, password, e-mail, permissions or role."""
    work, name = services.of(request), request.match_info["username"]
    change = await bodies.read(request, UserChange)
    if name == work.settings.server.admin_username:
        if change.username and change.username != name:
            raise ApiError("cannot rename the superuser!")
        if change.password:
            raise ApiError("the superuser's password is set by server.admin_password")
        if change.role == "user":
            raise ApiError("the superuser is always an admin")
    fields: dict[str, Any] = {
        key: value for key in ("permissions", "role") if (value := getattr(change, key)) is not None
    }
    if "email" in change.model_fields_set:  # null takes an address away
        fields["email"] = change.email
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
    Route("GET", "/api/users", show, Access.ADMIN, "users", "List all users", response=UserList),
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
