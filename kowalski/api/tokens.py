"""Tokens: JSON Web Tokens (RFC 7519) signed with the key of this instance."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import jwt

from kowalski.api.errors import InvalidTokenError
from kowalski.archive.users import User
from kowalski.config.serving import Server


@dataclass(frozen=True, slots=True)
class Claim:
    """What a valid token says: a user's name, and the stamp that the user had when it was made."""

    user: str
    stamp: str


class Tokens:
    """Makes and reads tokens."""

    def __init__(self, server: Server) -> None:
        if not server.jwt_secret_key:
            raise ValueError("server.jwt_secret_key is not set")
        self._key = server.jwt_secret_key
        self._algorithm = server.jwt_algorithm
        self._lifetime = server.jwt_exp_delta_seconds
        self._verified = lru_cache(1024)(self._verify)  # a client sends its token with each request

    def issue(self, user: User) -> str:
        """Make a token for a user."""
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
        payload: dict[str, str | int] = {"user_id": user.name, "stamp": user.stamp, "created_at": created}
        if self._lifetime is not None:
            payload["exp"] = int(time.time()) + self._lifetime
        return jwt.encode(payload, self._key, self._algorithm)

    def read(self, token: str) -> Claim:
        """Check a token and read it.

        Raises
        ------
        InvalidTokenError
            If it is none of ours, or has expired.
        """
        claim, expires = self._verified(token)
        if expires is not None and expires <= time.time():
            raise InvalidTokenError("token has expired")
        return claim

    def _verify(self, token: str) -> tuple[Claim, float | None]:
        try:
            payload = jwt.decode(token, self._key, algorithms=[self._algorithm])
        except jwt.ExpiredSignatureError as error:
            raise InvalidTokenError("token has expired") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidTokenError("token is invalid") from error
        name, stamp = payload.get("user_id"), payload.get("stamp", "")
        if not isinstance(name, str) or not isinstance(stamp, str):
            raise InvalidTokenError("token is invalid")
        return Claim(name, stamp), payload.get("exp")
