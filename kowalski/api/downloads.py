"""Fetching a file that a user names, from places that the operator allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import httpx

from kowalski.api.errors import ApiError

MAX_BYTES = 100 * 1024 * 1024
"""Of a file as it is sent."""
MAX_REDIRECTS = 3
GONE = (404, 410)


class DownloadError(ApiError):
    """A file can't be fetched; the text says why."""


class NotThereError(DownloadError):
    """There is no such file, or not yet."""


def is_allowed(url: str, prefixes: Sequence[str]) -> bool:
    """Whether a URL lies below one of the allowed ones.

    Scheme, host and port must be the same, and the path must begin like theirs without ways back up.
    """
    if any(character <= " " or character in "\\\x7f" for character in url):
        return False
    try:
        wanted = urlsplit(url)
        place = (wanted.scheme, wanted.hostname, wanted.port)
    except ValueError:
        return False
    path = wanted.path.lower()
    if "@" in wanted.netloc or ".." in path or "%2e" in path or "%2f" in path or "%5c" in path:
        return False
    for prefix in prefixes:
        known = urlsplit(prefix)
        if place == (known.scheme, known.hostname, known.port) and wanted.path.startswith(known.path):
            return True
    return False


async def fetch(url: str, prefixes: Sequence[str], seconds: float) -> bytes:
    """Fetch a file.

    Parameters
    ----------
    prefixes
        Beginnings of allowed URLs; redirections must lead below them, too.
    seconds
        Time for all of it.

    Raises
    ------
    DownloadError
        If that is not allowed, takes too long, or goes wrong at the other end.
    NotThereError
        If there is no such file.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(trust_env=False, timeout=seconds, headers={"Accept-Encoding": "identity"}) as client,
        ):
            for _ in range(MAX_REDIRECTS + 1):
                if not is_allowed(url, prefixes):
                    raise DownloadError(f"url: this instance may not fetch {url[:200]}")
                content, url = await _get(client, url)
                if content is not None:
                    return content
    except TimeoutError as error:
        raise DownloadError(f"url: {url[:200]} took longer than {seconds:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"url: {url[:200]} can't be fetched: {type(error).__name__} {error}"[:500]) from error
    raise DownloadError("url: too many redirections")


async def _get(client: httpx.AsyncClient, url: str) -> tuple[bytes | None, str]:
    """Get a file, or None and where to look instead."""
    async with client.stream("GET", url) as answer:
        if answer.has_redirect_location:
            return None, urljoin(url, answer.headers["Location"])
        if answer.status_code in GONE:
            raise NotThereError(f"url: there is no {url[:200]}")
        if answer.status_code != 200:
            raise DownloadError(f"url: {url[:200]} was answered with {answer.status_code}")
        parts, size = [], 0
        async for part in answer.aiter_raw():
            size += len(part)
            if size > MAX_BYTES:
                raise DownloadError(f"url: {url[:200]} is larger than {MAX_BYTES} bytes")
            parts.append(part)
        return b"".join(parts), url
