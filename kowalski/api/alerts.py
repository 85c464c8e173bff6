"""Alerts by number, as one user sees them: an alert of a program that they may not see is not there."""

from __future__ import annotations

from collections.abc import Sequence

from kowalski import surveys
from kowalski.api import guards
from kowalski.api.errors import ApiError, NotFoundError
from kowalski.api.services import Services
from kowalski.archive.client import Document
from kowalski.archive.users import User
from kowalski.surveys import Survey

MAX_TIME_MS = 10_000


def survey_of(name: str) -> Survey:
    """Find a survey by the name in a path, whatever its case.

    Raises
    ------
    ApiError
        If there is none of that name.
    """
    try:
        return surveys.get(name)
    except KeyError as error:
        known = ", ".join(survey.lower() for survey in surveys.SURVEYS)
        raise ApiError(f"survey {name[:50]} must be one of [{known}]") from error


def candid_of(text: str) -> int:
    """Read the number of an alert in a path.

    Raises
    ------
    ApiError
        If it is none.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and -(2**63) <= int(text) < 2**63):
        raise ApiError(f"candid {text[:50]} must be an integer")
    return int(text)


async def find(
    services: Services, user: User, survey: Survey, candids: Sequence[int], fields: Sequence[str]
) -> dict[int, Document]:
    """Read fields of alerts; what is not there or not for this user is left out."""
    guard = guards.of(user, services.accounts).get(survey.alerts)
    wanted = {"candid": {"$in": list(candids)}}
    condition = wanted if guard is None else {"$and": [wanted, guard.match]}
    shown = dict.fromkeys(("candid", *fields), 1)
    found = services.data[survey.alerts].find(condition, shown, max_time_ms=MAX_TIME_MS, comment=user.name)
    return {document["candid"]: document async for document in found}


async def get(services: Services, user: User, survey: Survey, candid: int, fields: Sequence[str]) -> Document:
    """Read fields of an alert.

    Raises
    ------
    NotFoundError
        If it is not there or not for this user.
    """
    found = await find(services, user, survey, [candid], fields)
    if candid not in found:
        raise NotFoundError(f"{survey.name.lower()} alert {candid} not found")
    return found[candid]
