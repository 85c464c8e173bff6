"""What can go wrong with a request: each error knows its HTTP status, and its text is for the user.

penquins repeats whatever is answered with 405, 429 or 5xx; so an error that would only come again is a 4xx, and one
that may pass has a ``Retry-After``.
"""

from __future__ import annotations

from typing import ClassVar

from bson.errors import BSONError
from pydantic import ValidationError
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

UNAUTHORIZED, AUTHENTICATION_FAILED = 13, 18
MAX_TEXT = 2000
RETRY_SECONDS = 5

UNENCODABLE = (BSONError, OverflowError, UnicodeEncodeError, RecursionError)
"""What the driver raises for a query that can't be sent: numbers beyond 64 bits, names with null bytes, …"""


class ApiError(Exception):
    """A request can't be answered as asked."""

    status: ClassVar[int] = 400

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        return {}


class InvalidRequestError(ApiError):
    """What was sent is not what the route takes."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ValidationError: {reason}")


class UnsupportedMediaError(ApiError):
    """The body is of a kind that the route does not take."""

    status = 415


class InvalidTokenError(ApiError):
    """The token was not made here, has been changed, or has expired."""


class UnauthorizedError(ApiError):
    """Nobody has said who they are, or not truthfully."""

    status = 401

    def __init__(self) -> None:
        super().__init__("Unauthorized")

    @property
    def headers(self) -> dict[str, str]:
        """How to do it right."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(ApiError):
    """The user may not do that."""

    status = 403

    def __init__(self, reason: str = "Forbidden") -> None:
        super().__init__(reason)


class NotFoundError(ApiError):
    """There is no such thing."""

    status = 404


class ConflictError(ApiError):
    """Something of that name exists already."""

    status = 409


class ThrottledError(ApiError):
    """Too much of something within a minute."""

    status = 429

    def __init__(self, reason: str, seconds: int) -> None:
        super().__init__(f"{reason}; try again in {seconds} s")
        self.seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": str(self.seconds)}


class BusyError(ApiError):
    """There is too much of this to do already."""

    status = 503

    def __init__(self, what: str) -> None:
        super().__init__(f"there are too many {what} at the moment; try again in {RETRY_SECONDS} s")

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": str(RETRY_SECONDS)}


class UnavailableError(ApiError):
    """The database can't be reached at the moment."""

    status = 503

    def __init__(self) -> None:
        super().__init__("the database is not available")

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": str(RETRY_SECONDS)}


def from_validation(error: ValidationError, part_of: str | None = None) -> InvalidRequestError:
    """Say which parts of a request (or of the block ``part_of`` in it) are wrong."""
    reasons = []
    for part in error.errors(include_url=False, include_context=False)[:3]:
        where = ".".join(str(step) for step in ((part_of, *part["loc"]) if part_of else part["loc"]))
        what = part["msg"].removeprefix("Value error, ")
        reasons.append(f"{where}: {what}" if where else what)
    return InvalidRequestError("; ".join(reasons)[:MAX_TEXT])


def from_database(error: PyMongoError) -> ApiError | None:
    """Find the error to answer with; None if it is not the request's fault nor one that passes."""
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError | WTimeoutError):
        return UnavailableError()
    if isinstance(error, ExecutionTimeout):
        return ApiError(f"ExecutionTimeout: {_text(error)}")
    if isinstance(error, OperationFailure):
        if error.code == UNAUTHORIZED:
            return ForbiddenError()
        return None if error.code == AUTHENTICATION_FAILED else ApiError(f"OperationFailure: {_text(error)}")
    if isinstance(error, InvalidName | DocumentTooLarge):
        return InvalidRequestError(str(error)[:MAX_TEXT])
    return None


def _text(error: OperationFailure) -> str:
    return str((error.details or {}).get("errmsg") or error)[:MAX_TEXT]
