"""The surveys whose alerts Kowalski takes in, each declared in a file of its own."""

from __future__ import annotations

from kowalski.surveys.base import Survey
from kowalski.surveys.lsst import LSST
from kowalski.surveys.pgir import PGIR
from kowalski.surveys.turbo import TURBO
from kowalski.surveys.winter import WINTER
from kowalski.surveys.ztf import ZTF

__all__ = ["SURVEYS", "Survey", "collections", "get"]

SURVEYS: dict[str, Survey] = {survey.name: survey for survey in (ZTF(), PGIR(), WINTER(), TURBO(), LSST())}


def get(name: str) -> Survey:
    """Find a survey by its name, whatever the case.

    Raises
    ------
    KeyError
        If no survey has that name; the text lists those that exist.
    """
    for known, survey in SURVEYS.items():
        if known.lower() == name.lower():
            return survey
    raise KeyError(f"no survey {name}; known: {', '.join(SURVEYS)}")


def collections() -> list[str]:
    """Name the collections of all surveys: what else the data database holds are catalogs."""
    return [name for survey in SURVEYS.values() for name in (survey.alerts, survey.objects)]
