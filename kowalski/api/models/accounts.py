"""Bodies and answers of ``/api/auth`` and ``/api/users``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from kowalski import surveys
from kowalski.api.models.common import Request, Success
from kowalski.archive.users import Role


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


def _survey(name: str) -> str:
    try:
        return surveys.get(name).name
    except KeyError as error:
        raise ValueError(error.args[0]) from error


Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f/{}]*$")]
"""Not longer than an index of MongoDB likes, and fit for the path ``/api/users/{username}``."""
Email = Annotated[str | None, Field(max_length=320)]
Program = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Permissions = Annotated[
    dict[Annotated[str, AfterValidator(_survey)], list[Program]],
    Field(
        description=(
            "Survey -> ids of the programs that the user may see, e.g. `{'ZTF': [1, 2]}`. A survey that is not named "
            "is as the instance's `server.default_permissions` say."
        )
    ),
]
Rights = Annotated[Role, Field(description="An `admin` may do everything and sees every program.")]


class NewUser(Request):
    """A user to add."""

    username: Name = ""
    password: str = ""
    email: Email = None
    permissions: Permissions = {}
    role: Rights = "user"

    @model_validator(mode="after")
    def _is_whole(self) -> NewUser:
        if not self.username or not self.password:
            raise ValueError("username and password must be set")
        return self


class UserChange(Request):
    """What to change of a user; what is missing or empty stays."""

    username: Name | None = None
    password: str | None = None
    email: Email = None
    permissions: Permissions | None = None
    role: Rights | None = None


class UserRecord(BaseModel):
    """A user as others may see them: everything but the password."""

    username: str
    email: str | None
    permissions: dict[str, list[int]]
    role: Role
    last_modified: datetime | None


class UserList(Success):
    """All users, by name."""

    data: list[UserRecord]
