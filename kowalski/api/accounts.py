"""Who is asking: logging in, and the user behind a token."""

from __future__ import annotations

import time

from aiohttp import web
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.api.errors import TooManyAttemptsError, UnauthorizedError
from kowalski.api.passwords import Passwords
from kowalski.api.tokens import Tokens
from kowalski.archive import logins, users
from kowalski.archive.client import Document
from kowalski.archive.users import User
from kowalski.config.settings import Server


class Accounts:
    """The users of this instance, as far as the API needs them.

    A user is looked up anew after ``server.user_cache_seconds``; so long may a deleted one go on, or a token that was
    made with an old password.
    """

    def __init__(self, server: Server, system: AsyncDatabase[Document], passwords: Passwords, tokens: Tokens) -> None:
        self.passwords = passwords
        self._server = server
        self._system = system
        self._tokens = tokens
        self._cache: dict[str, tuple[float, User | None]] = {}

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
        TooManyAttemptsError
            If there were too many attempts from this address for this account.
        UnauthorizedError
            If name or password is wrong; it takes the same time in either case.
        """
        attempts, seconds = await logins.count(self._system, address, name)
        if attempts > self._server.login_attempts_per_minute:
            raise TooManyAttemptsError(seconds)
        user = await users.get(self._system, name)
        if not await self.passwords.matches(password, user.password if user else None) or user is None:
            raise UnauthorizedError
        await logins.forgive(self._system, address, name)
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
        token = rest.strip() if first.lower() == "bearer" else first
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
        now = time.monotonic()
        expires, user = self._cache.get(name, (0.0, None))
        if now >= expires:
            user = await users.get(self._system, name)
            self._cache[name] = (now + self._server.user_cache_seconds, user)
        return user
