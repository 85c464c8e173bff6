"""Notices of transient events in VOEvent 2.0 (https://www.ivoa.net/documents/VOEvent/): when, where, and which map."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

ROOT = "{http://www.ivoa.net/xml/VOEvent/v2.0}VOEvent"
MAX_CHARACTERS = 1 << 20
MAX_NAME = 400
"""Characters of a name or URL that is taken from a notice."""
COORDINATES = "WhereWhen/ObsDataLocation/ObservationLocation/AstroCoords"
SIGMAS_OF_90 = math.sqrt(-2.0 * math.log(0.1))
"""Radius that holds 90 per cent of a two-dimensional Gaussian, in sigmas."""
FERMI_TRIGGER = re.compile(r"/triggers/\d+/(bn\d+)")


class VOEventError(ValueError):
    """A text is no VOEvent that can be used; what it says is for its sender."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a notice says.

    Attributes
    ----------
    at
        When it happened, UTC without zone.
    trigger
        Number that the observatory has given it.
    aliases
        Further names, such as ``LVC#S190425z``.
    map_url
        Where its map is said to be.
    cone
        Right ascension, declination and one-sigma error, in degrees.
    """

    at: datetime
    trigger: int | None
    aliases: tuple[str, ...]
    map_url: str | None
    cone: tuple[float, float, float] | None


def parse(text: str) -> Event:
    """Read a notice; document types and entities are refused, nothing is fetched.

    Raises
    ------
    VOEventError
        If it is no VOEvent 2.0, or does not say when something happened.
    """
    if len(text) > MAX_CHARACTERS:
        raise VOEventError(f"a notice has no more than {MAX_CHARACTERS} characters")
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, ValueError) as error:
        forbidden = isinstance(error, DefusedXmlException)
        reason = "document types and entities are not accepted" if forbidden else str(error)
        raise VOEventError(f"not valid XML: {reason}") from error
    if root.tag != ROOT:
        raise VOEventError("not a VOEvent 2.0")
    values = {element.get("name", ""): element.get("value", "") for element in root.iterfind("./What//Param")}
    return Event(
        at=_time(root), trigger=_trigger(values), aliases=_aliases(values), map_url=_map(values), cone=_cone(root)
    )


def _time(root: Element) -> datetime:
    text = (root.findtext(f"{COORDINATES}/Time/TimeInstant/ISOTime") or "").strip()
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise VOEventError(f"its ISOTime is no time: {text[:40]!r}") from error


def _trigger(values: Mapping[str, str]) -> int | None:
    text = values.get("TrigID", "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _aliases(values: Mapping[str, str]) -> tuple[str, ...]:
    aliases = []
    fermi = FERMI_TRIGGER.search(values.get("LightCurve_URL", ""))
    if fermi is not None:
        aliases.append(f"FERMI#{fermi[1]}")
    grace = values.get("GraceID", "")
    if 0 < len(grace) <= MAX_NAME:
        aliases.append(f"LVC#{grace}")
    return tuple(aliases)


def _map(values: Mapping[str, str]) -> str | None:
    url = values.get("skymap_fits") or values.get("HealPix_URL")
    plot = values.get("LocationMap_URL", "")
    if not url and "_locplot_" in plot:  # Fermi names the picture; the map lies beside it
        url = plot.replace("_locplot_", "_healpix_").replace(".png", ".fit")
    return url if url and len(url) <= MAX_NAME else None


def _cone(root: Element) -> tuple[float, float, float] | None:
    """Find position and error; radii hold 90 per cent in AMON's notices, and are of one sigma in all others."""
    place = f"{COORDINATES}/Position2D"
    texts = [root.findtext(f"{place}/{name}") for name in ("Value2/C1", "Value2/C2", "Error2Radius")]
    try:
        ra, dec, radius = (float(text or "nan") for text in texts)
    except ValueError as error:
        raise VOEventError(f"its position is none: {', '.join(str(text)[:20] for text in texts)}") from error
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0 and 0.0 < radius <= 180.0):
        return None
    return ra, dec, radius / SIGMAS_OF_90 if "/AMON#" in root.get("ivorn", "") else radius
