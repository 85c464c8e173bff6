"""``/api/users``: who may use this instance; for administrators."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, audit, bodies, services
from kowalski.api.models import examples
from kowalski.api.models.accounts import NewUser, UserChange, UserList
from kowalski.api.models.common import Done
from kowalski.api.routes import Access, Route


async def show(request: web.Request) -> web.Response:
    """List all users."""
    found = [record async for record in services.of(request).accounts.listing()]
    return answers.success(f"{len(found)} users", [record.model_dump(mode="json") for record in found])


async def add(request: web.Request) -> web.Response:
    """Add a user; the same request sent again, after a lost answer, succeeds again."""
    new = await bodies.read(request, NewUser)
    audit.note(request, **await services.of(request).accounts.add(new))
    return answers.success(f"added user {new.username}")


async def edit(request: web.Request) -> web.Response:
    """Change a user's name, password, e-mail, permissions or role."""
    name, change = request.match_info["username"], await bodies.read(request, UserChange)
    audit.note(request, **await services.of(request).accounts.edit(name, change))
    return answers.success(f"edited user {name}")


async def remove(request: web.Request) -> web.Response:
    """Remove a user, whose tokens end with that."""
    name = request.match_info["username"]
    await services.of(request).accounts.remove(name)
    return answers.success(f"removed user {name}")


NAME = {"username": {"type": "string"}}
ROUTES = (
    Route("GET", "/api/users", show, Access.ADMIN, "users", "List all users", response=UserList, answer=examples.USERS),
    Route(
        "POST",
        "/api/users",
        add,
        Access.ADMIN,
        "users",
        "Add a user",
        request=NewUser,
        response=Done,
        examples=examples.NEW_USER,
        answer={"status": "success", "message": "added user vera"},
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
        examples=examples.USER_CHANGE,
        answer={"status": "success", "message": "edited user vera"},
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
        answer={"status": "success", "message": "removed user vera"},
        parameters=NAME,
    ),
)
