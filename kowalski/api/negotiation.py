"""What a client would like to have: media type and content coding (RFC 9110, sections 12.5.1 and 12.5.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

CODINGS = ("zstd", "gzip")
"""Content codings that are offered, the better one first."""


@lru_cache(256)  # clients say the same with each request
def media_type(header: str, offered: tuple[str, ...]) -> str:
    """Choose a media type.

    Parameters
    ----------
    header
        The value of ``Accept``.
    offered
        What there is, the default first.

    Returns
    -------
    str
        What is wanted most; the default if several are wanted alike, or none that is offered: who asks for a page
        still gets an answer that every client can read.
    """
    ranges = dict(_parse(header))
    best = max(offered, key=lambda name: _quality(name, ranges))  # the first of those that are wanted alike
    return best if _quality(best, ranges) > 0 else offered[0]


@lru_cache(256)
def coding(header: str) -> str | None:
    """Choose a content coding by the value of ``Accept-Encoding``; None if the content is to stay as it is."""
    wanted = dict(_parse(header))
    plain = wanted.get("identity", 0.0)
    best = max(CODINGS, key=lambda name: wanted.get(name, wanted.get("*", 0.0)))
    quality = wanted.get(best, wanted.get("*", 0.0))
    return best if quality > 0 and quality >= plain else None


def _quality(name: str, ranges: dict[str, float]) -> float:
    kind = name.partition("/")[0]
    return next((ranges[each] for each in (name, f"{kind}/*", "*/*") if each in ranges), 0.0)


def _parse(header: str) -> Iterable[tuple[str, float]]:
    for part in header.split(","):
        name, *parameters = (item.strip().lower() for item in part.split(";"))
        if name:
            yield name, _weight(parameters)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
