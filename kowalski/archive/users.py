"""Users of the API: ``_id`` (the name), ``email``, ``password`` (an Argon2 hash), ``stamp``, ``permissions``, ``role``.

``stamp`` is a random text that every token carries; it changes with the password, which ends older tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from kowalski.archive import names
from kowalski.archive.client import Document

Role = Literal["user", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Programs = Mapping[str, list[int]]
"""Survey -> program ids."""


@dataclass(frozen=True, slots=True)
class User:
    """A user as the API knows them.

    Attributes
    ----------
    password
        Hash of the password.
    stamp
        What tokens of this user must carry.
    permissions
        The program ids that the user may see, of each survey for which that was said.
    role
        What the user may do; see also `kowalski.api.accounts.Accounts.is_admin`.
    """

    name: str
    password: str
    stamp: str
    email: str | None = None
    permissions: Programs = field(default_factory=dict)
    role: Role = "user"
    last_modified: datetime | None = None


async def get(system: AsyncDatabase[Document], name: str) -> User | None:
    """Read a user."""
    document = await system[names.USERS].find_one({"_id": name})
    return None if document is None else _user(document)


async def listing(system: AsyncDatabase[Document]) -> AsyncIterator[User]:
    """Read all users, by name."""
    async for document in system[names.USERS].find().sort("_id", 1):
        yield _user(document)


async def add(
    system: AsyncDatabase[Document],
    name: str,
    password: str,
    email: str | None = None,
    permissions: Programs | None = None,
    role: Role = "user",
) -> bool:
    """Add a user with the hash of a password; tells whether that name was free."""
    document = {"_id": name, "email": email, "permissions": dict(permissions or {}), "role": role}
    document |= _with_password(password)
    try:
        await system[names.USERS].insert_one(document)
    except DuplicateKeyError:
        return False
    return True


async def edit(
    system: AsyncDatabase[Document],
    name: str,
    *,
    rename: str | None = None,
    password: str | None = None,
    **fields: Any,
) -> bool:
    """Change a user's name, password hash, ``email``, ``permissions`` or ``role``; tells whether there was one.

    A change of name that is made again, after a lost answer, succeeds again.

    Raises
    ------
    DuplicateKeyError
        If the new name is taken.
    """
    changes = fields | (_with_password(password) if password is not None else {"last_modified": datetime.now(UTC)})
    if rename is None or rename == name:
        return (await system[names.USERS].update_one({"_id": name}, {"$set": changes})).matched_count == 1

    async def move(session: AsyncClientSession) -> bool:
        document = await system[names.USERS].find_one_and_delete({"_id": name}, session=session)
        if document is None:
            again = {"_id": rename, "renamed_from": name}
            return (await system[names.USERS].update_one(again, {"$set": changes}, session=session)).matched_count == 1
        moved = {**document, **changes, "_id": rename, "renamed_from": name}
        await system[names.USERS].insert_one(moved, session=session)
        return True

    async with system.client.start_session() as session:
        return await session.with_transaction(move)


async def replace_password(system: AsyncDatabase[Document], user: User, password: str) -> None:
    """Set a password hash unless somebody else has changed it since ``user`` was read."""
    match = {"_id": user.name, "password": user.password}
    await system[names.USERS].update_one(match, {"$set": _with_password(password)})


async def remove(system: AsyncDatabase[Document], name: str) -> bool:
    """Delete a user; tells whether there was one."""
    return (await system[names.USERS].delete_one({"_id": name})).deleted_count == 1


def _with_password(password: str) -> Document:
    return {"password": password, "stamp": secrets.token_hex(8), "last_modified": datetime.now(UTC)}


def _user(document: Document) -> User:
    changed: datetime | None = document.get("last_modified")
    return User(
        name=document["_id"],
        password=document["password"],
        stamp=document.get("stamp", ""),
        email=document.get("email"),
        permissions=_programs(document.get("permissions")),
        role="admin" if document.get("role") == "admin" else "user",
        last_modified=changed.replace(tzinfo=UTC) if changed else None,
    )


def _programs(stored: Any) -> Programs:
    """Read permissions, of which older versions kept whatever they were given: what gives no programs gives none."""
    if not isinstance(stored, dict):
        return {}
    return {
        survey: [program for program in programs if isinstance(program, int)] if isinstance(programs, list) else []
        for survey, programs in stored.items()
    }
