"""Bodies and answers of ``/api/auth`` and ``/api/users``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from kowalski.api.models.common import Request


class Login(Request):
    """Name and password; penquins also tells its version, and every version is welcome."""

    username: str = ""
    password: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Login:
        for name in ("username", "password"):
            if not getattr(self, name):
                raise ValueError(f"missing {name}")
        return self


class Token(BaseModel):
    """A token for the header ``Authorization``."""

    status: Literal["success"]
    token: str


Email = Annotated[str | None, Field(max_length=320)]
Permissions = Annotated[dict[str, Any], Field(description="Survey -> program ids, e.g. `{'ZTF': [1, 2]}`.")]


class NewUser(Request):
    """A user to add."""

    username: Annotated[str, Field(max_length=200)] = ""
    password: str = ""
    email: Email = None
    permissions: Permissions = {}

    @model_validator(mode="after")
    def _is_whole(self) -> NewUser:
        if not self.username or not self.password:
            raise ValueError("username and password must be set")
        return self


class UserChange(Request):
    """What to change of a user; what is missing or empty stays."""

    username: Annotated[str | None, Field(max_length=200)] = None
    password: str | None = None
    email: Email = None
    permissions: Permissions | None = None
