"""The users of this instance: logging in, the user behind a token, and changes of users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from kowalski.api.errors import ApiError, ConflictError, UnauthorizedError
from kowalski.api.models.accounts import NewUser, UserChange, UserRecord
from kowalski.api.passwords import Passwords
from kowalski.api.throttle import Throttle
from kowalski.api.tokens import Tokens
from kowalski.archive import users
from kowalski.archive.client import Document
from kowalski.archive.users import User
from kowalski.config.serving import Server


class Accounts:
    """The users of this instance, as far as the API needs them.

    A user is looked up anew after ``server.user_cache_seconds``; so long may a deleted one go on, or a token that was
    made with an old password.
    """

    def __init__(self, server: Server, system: AsyncDatabase[Document], passwords: Passwords, tokens: Tokens) -> None:
        self.passwords = passwords
        self.throttle = Throttle(server, system)
        self._server = server
        self._system = system
        self._tokens = tokens
        self._cache: dict[str, tuple[float, asyncio.Future[User | None]]] = {}

    def is_admin(self, user: User) -> bool:
        """Whether a user may do everything: by role, or as the administrator whom the configuration names."""
        return user.role == "admin" or user.name == self._server.admin_username

    def programs(self, user: User, survey: str) -> frozenset[int] | None:
        """Which program ids of a survey a user may see.

        Returns
        -------
        frozenset of int, or None
            None for an administrator, who sees all of them. What was not said for a user is as
            ``server.default_permissions`` says, and without that nothing.
        """
        if self.is_admin(user):
            return None
        return frozenset(user.permissions.get(survey, self._server.default_permissions.get(survey, ())))

    async def log_in(self, name: str, password: str, address: str) -> str:
        """Check a password and make a token.

        Raises
        ------
        ThrottledError
            If there were too many attempts.
        UnauthorizedError
            If name or password is wrong; it takes the same time in either case.
        """
        counted = await self.throttle.admit(name, address)
        user = await users.get(self._system, name)
        if not await self.passwords.matches(password, user.password if user else None) or user is None:
            raise UnauthorizedError
        await self.throttle.succeeded(name, address, counted)
        return self._tokens.issue(user)

    async def identify(self, request: web.Request) -> User:
        """Find the user who sends a request, by ``Authorization: <token>`` or ``Authorization: Bearer <token>``.

        Raises
        ------
        UnauthorizedError
            If there is no token, or its user is gone or has another password now.
        InvalidTokenError
            If the token is not valid.
        """
        first, _, rest = request.headers.get("Authorization", "").strip().partition(" ")
        return await self.owner(rest.strip() if first.lower() == "bearer" else first)

    async def owner(self, token: str) -> User:
        """Find the user of a token; raises as `identify`, and without a token `UnauthorizedError`."""
        if not token:
            raise UnauthorizedError
        claim = self._tokens.read(token)
        user = await self._look_up(claim.user)
        if user is None or user.stamp != claim.stamp:
            # Another process may have made the user or the token after this one last looked.
            self.forget(claim.user)
            user = await self._look_up(claim.user)
        if user is None or user.stamp != claim.stamp:
            raise UnauthorizedError
        return user

    async def listing(self) -> AsyncIterator[UserRecord]:
        """Read all users, by name."""
        async for user in users.listing(self._system):
            yield UserRecord(
                username=user.name,
                email=user.email,
                permissions=dict(user.permissions),
                role="admin" if self.is_admin(user) else "user",
                last_modified=user.last_modified,
            )

    async def add(self, new: NewUser) -> dict[str, Any]:
        """Add a user; the same user may be added again.

        Returns
        -------
        dict
            What an audit should tell about it, as from `edit`.

        Raises
        ------
        ConflictError
            If there is another user of that name.
        """
        hashed = await self.passwords.hash(new.password)
        if not await users.add(self._system, new.username, hashed, new.email, new.permissions, new.role):
            known = await users.get(self._system, new.username)
            wanted = (new.email, new.permissions, new.role)
            same = known is not None and (known.email, known.permissions, known.role) == wanted
            if known is None or not same or not await self.passwords.matches(new.password, known.password):
                raise ConflictError(f"user {new.username} already exists")
        return {"user": new.username, **new.model_dump(include={"email", "permissions", "role"})}

    async def edit(self, name: str, change: UserChange) -> dict[str, Any]:
        """Change a user; with a new password, tokens that were made with the old one end.

        Raises
        ------
        ApiError
            If there is no such user, or the administrator whom the configuration names can't be changed like that.
        ConflictError
            If the new name is taken.
        """
        if name == self._server.admin_username:
            _check_superuser(name, change)
        rename = change.username or None
        fields = {key: value for key in ("permissions", "role") if (value := getattr(change, key)) is not None}
        if "email" in change.model_fields_set:  # null takes an address away
            fields["email"] = change.email
        hashed = await self.passwords.hash(change.password) if change.password else None
        try:
            found = await users.edit(self._system, name, rename=rename, password=hashed, **fields)
        except DuplicateKeyError as error:
            raise ConflictError(f"user {rename} already exists") from error
        if not found:
            raise ApiError(f"user {name} not found")
        self.forget(name)
        return {"user": name, **fields, **({"username": rename} if rename else {}), "password": hashed is not None}

    async def remove(self, name: str) -> None:
        """Remove a user, whose tokens end with that.

        Raises
        ------
        ApiError
            If there is no such user, or it is the administrator whom the configuration names.
        """
        if name == self._server.admin_username:
            raise ApiError("cannot remove the superuser!")
        if not await users.remove(self._system, name):
            raise ApiError(f"user {name} not found")
        self.forget(name)

    def forget(self, name: str) -> None:
        """Look a user up anew next time, after a change."""
        self._cache.pop(name, None)

    async def ensure_admin(self) -> None:
        """Make the administrator, or give the one there is the configured password; several processes may do so."""
        name, password = self._server.admin_username, self._server.admin_password
        admin = await users.get(self._system, name)
        if admin is None:
            await users.add(self._system, name, await self.passwords.hash(password))
        elif not await self.passwords.matches(password, admin.password):
            await users.replace_password(self._system, admin, await self.passwords.hash(password))

    async def _look_up(self, name: str) -> User | None:
        expires, looking = self._cache.get(name, (0.0, None))
        if looking is None or time.monotonic() >= expires or (looking.done() and _has_failed(looking)):
            # One reads for all who wait. Nobody who leaves may end that, so it is a task of its own.
            looking = asyncio.ensure_future(users.get(self._system, name))
            self._cache[name] = (time.monotonic() + self._server.user_cache_seconds, looking)
        return looking.result() if looking.done() else await asyncio.shield(looking)


def _has_failed(task: asyncio.Future[User | None]) -> bool:
    return task.cancelled() or task.exception() is not None


def _check_superuser(name: str, change: UserChange) -> None:
    if change.username and change.username != name:
        raise ApiError("cannot rename the superuser!")
    if change.password:
        raise ApiError("the superuser's password is set by server.admin_password")
    if change.role == "user":
        raise ApiError("the superuser is always an admin")
