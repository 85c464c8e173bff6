"""Positions on the sky as users write them.

Stored positions are GeoJSON points, whose longitude runs from -180 to 180 degrees: right ascension minus 180.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kowalski.api.errors import InvalidRequestError
from kowalski.api.literals import parse_literal

FIELD = "coordinates.radec_geojson"
RADIANS = {
    "rad": 1.0,
    "deg": math.pi / 180.0,
    "arcmin": math.pi / 180.0 / 60.0,
    "arcsec": math.pi / 180.0 / 3600.0,
}
"""Radians per unit."""

_SECONDS = r"(?P<second>\d{1,2}(?:\.\d*)?)"
_FORMS = {
    "ra": re.compile(rf"(?P<sign>[+-]?)(?P<unit>\d{{1,2}})(?::|h)\s*(?P<minute>\d{{1,2}})(?::|m)\s*{_SECONDS}s?"),
    "dec": re.compile(rf"(?P<sign>[+-]?)(?P<unit>\d{{1,2}})(?::|d)\s*(?P<minute>\d{{1,2}})(?::|m)\s*{_SECONDS}s?"),
}
DEGREES_PER_HOUR = 15.0


@dataclass(frozen=True, slots=True)
class Position:
    """A named position, in degrees."""

    name: str
    ra: float
    dec: float

    @property
    def point(self) -> list[float]:
        """Longitude and latitude as MongoDB takes them, in degrees."""
        return [self.ra - 180.0, self.dec]


@dataclass(frozen=True, slots=True)
class Cone:
    """What is searched around a position; angles are in radians.

    Attributes
    ----------
    inner
        How far away a source must be at least.
    nearest_first
        Whether the order matters.
    """

    radius: float
    inner: float = 0.0
    nearest_first: bool = False

    @property
    def arcsec(self) -> float:
        """The radius in arcsec."""
        return self.radius / RADIANS["arcsec"]

    @property
    def inner_arcsec(self) -> float:
        """The inner radius in arcsec."""
        return self.inner / RADIANS["arcsec"]

    def condition(self, position: Position) -> dict[str, Any]:
        """Build MongoDB's condition for one position."""
        if self.nearest_first:
            # A bare pair of coordinates instead of a GeoJSON point: then MongoDB takes distances in radians.
            return {FIELD: {"$nearSphere": position.point, "$minDistance": self.inner, "$maxDistance": self.radius}}
        return {FIELD: {"$geoWithin": {"$centerSphere": [position.point, self.radius]}}}


def parse(radec: Any) -> list[Position]:
    """Parse positions in any of the accepted forms.

    Parameters
    ----------
    radec
        ``{name: (ra, dec)}``, a list of pairs, a text that holds either as a Python literal, or a text of two
        coordinates with a blank between them. Coordinates are degrees, or texts such as ``04:46:37.88`` and
        ``04h46m37.88s``, ``-10:13:35.0`` and ``-10d13m35.0s``.

    Returns
    -------
    list of Position
        Names are those given, else the text of the pair; dots in them are replaced by ``_``.

    Raises
    ------
    InvalidRequestError
        If a position can't be read or is not on the sky, or two positions have the same name.
    """
    found: dict[str, Position] = {}
    for name, pair in _named(_parse_text(radec) if isinstance(radec, str) else radec):
        position = _position(name.replace(".", "_"), pair)
        if found.setdefault(position.name, position) != position:
            raise InvalidRequestError(f"radec: two objects are named {position.name!r}; dots in names count as '_'")
    return list(found.values())


def _parse_text(text: str) -> Any:
    parts = text.split()
    if len(parts) == 2 and "(" not in text and "[" not in text and "{" not in text:
        return [tuple(_number(part) for part in parts)]
    try:
        return parse_literal(text)
    except ValueError as error:
        raise InvalidRequestError(f"radec: {error}") from error


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _named(radec: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(radec, dict):
        return [(str(name), pair) for name, pair in radec.items()]
    if isinstance(radec, list | tuple) and all(isinstance(pair, list | tuple) for pair in radec):
        return [(str(pair), pair) for pair in radec]
    raise InvalidRequestError("radec: neither {name: [ra, dec]} nor a list of [ra, dec] pairs")


def _position(name: str, pair: Any) -> Position:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InvalidRequestError(f"radec: {name}: a position is a pair of right ascension and declination")
    ra, dec = _degrees(*pair)
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise InvalidRequestError(f"radec: {name}: right ascension is 0 to 360 and declination -90 to 90 degrees")
    return Position(name, ra, dec)


def _degrees(ra: Any, dec: Any) -> tuple[float, float]:
    if isinstance(ra, str) and isinstance(dec, str):
        return sexagesimal(ra, "ra") * DEGREES_PER_HOUR, sexagesimal(dec, "dec")
    try:
        return float(ra), float(dec)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError("radec: unrecognized ra/dec format.") from error


def sexagesimal(text: str, kind: str) -> float:
    """Read a text such as ``04:46:37.88``: hours of right ascension (``ra``), degrees of declination (``dec``).

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    match = _FORMS[kind].fullmatch(text.strip())
    if match is None:
        raise InvalidRequestError(f"radec: unrecognized string ra/dec format. {text[:40]!r}")
    unit, minute, second = (float(match[part]) for part in ("unit", "minute", "second"))
    if minute >= 60.0 or second >= 60.0:
        raise InvalidRequestError(f"radec: minutes and seconds are below 60: {text[:40]!r}")
    value = unit + minute / 60.0 + second / 3600.0
    return -value if match["sign"] == "-" else value
