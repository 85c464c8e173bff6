"""Files from a web server: whole and checked under their name, or not there; what broke off goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from kowalski.watchers.errors import Malformed, Refused, Unavailable, WatcherError
from kowalski.watchers.web import Web


@dataclass(frozen=True, slots=True)
class Got:
    """A file that is there: bytes and MD5 sum."""

    size: int
    md5: str


class Part:
    """A file that is not yet whole, beside the one that it will be, and what the server says of its version."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self._facts = target.with_name(f".{target.name}.part.json")

    def resumable(self, url: str) -> tuple[int, str | None]:
        """Tell how many bytes are there of ``url``, and of which version; 0 where that is not known."""
        try:
            facts: dict[str, Any] = json.loads(self._facts.read_text())
            size = self.path.stat().st_size
        except (FileNotFoundError, json.JSONDecodeError):
            return 0, None
        version = facts.get("version")
        return (size, version) if facts.get("url") == url and version else (0, None)

    def begin(self, url: str, response: httpx.Response) -> None:
        """Note the version that begins to come; a weak ETag names none (RFC 9110, 13.1.5)."""
        tag = response.headers.get("ETag", "")
        version = tag if tag.startswith('"') else response.headers.get("Last-Modified")
        self._facts.write_text(json.dumps({"url": url, "version": version}))

    def discard(self) -> None:
        """Forget what is there."""
        self.path.unlink(missing_ok=True)
        self._facts.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        """Put the file under its name; on disk for good when this returns."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self._facts.unlink(missing_ok=True)


def download(
    web: Web,
    url: str,
    target: Path,
    *,
    md5: str | None = None,
    check: Callable[[Path], None] | None = None,
    keep_free: int = 0,
    form: dict[str, str] | None = None,
) -> Got:
    """Fetch a file.

    Parameters
    ----------
    web
        The server's client, which also tries again.
    url, target
        From where, and under which name; its folder is made.
    md5
        The sum that it must have, if that is known.
    check
        Raises `Malformed` on a file that is not whole.
    keep_free
        Bytes of the disk that must stay free.
    form
        What is to be posted to get it; without, it is asked for by GET.

    Raises
    ------
    Unavailable, Refused
        If the server does not give it whole.
    WatcherError
        If the disk is too small.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Part(target)

    def attempt() -> Got:
        _receive(web, url, part, keep_free, form)
        found = _checked(url, part, md5, check)
        part.become(target)
        return found

    return web.persist(attempt)


def present(target: Path, md5: str | None, check: Callable[[Path], None]) -> Got | None:
    """Tell what is there under a name already, if it is whole and the version that is wanted."""
    try:
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        check(target)
    except (FileNotFoundError, Malformed):
        return None
    return Got(target.stat().st_size, found) if md5 in (None, found) else None


def _receive(web: Web, url: str, part: Part, keep_free: int, form: dict[str, str] | None) -> None:
    start, version = part.resumable(url)
    headers = {"Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    options: dict[str, Any] = {"headers": headers} if form is None else {"headers": headers, "data": form}
    try:
        with web.stream("GET" if form is None else "POST", url, **options) as response:
            if response.status_code != HTTPStatus.PARTIAL_CONTENT or not _goes_on(response, start):
                if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                    part.discard()
                    raise Unavailable(f"{url}: the server gives another part than the one that was asked for")
                start = 0
                part.begin(url, response)
            _write(response, part, start, keep_free, url)
    except Refused as error:
        if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and version:
            part.discard()
            raise Unavailable(f"{url}: what is here of it does not fit what is there; from the beginning") from error
        raise


def _goes_on(response: httpx.Response, start: int) -> bool:
    told: str = response.headers.get("Content-Range", "")
    return told.startswith(f"bytes {start}-")


def _write(response: httpx.Response, part: Part, start: int, keep_free: int, url: str) -> None:
    length = response.headers.get("Content-Length", "")
    left = int(length) if length.isdecimal() else None
    _needs(part.path.parent, (left or 0) + keep_free, url)
    with part.path.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        for chunk in response.iter_raw():  # as they come: one that waits for more is lost when the rest does not
            file.write(chunk)
        size = file.tell()
    if left is not None and size != start + left:
        raise Unavailable(f"{url}: broke off after {size} of {start + left} bytes")


def _needs(folder: Path, size: int, url: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise WatcherError(f"{url} is not fetched: {free / 1e9:.1f} GB are free in {folder}, {size / 1e9:.1f} needed")


def _checked(url: str, part: Part, md5: str | None, check: Callable[[Path], None] | None) -> Got:
    with part.path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    size = part.path.stat().st_size
    if md5 is not None and found != md5:
        part.discard()
        raise Unavailable(f"{url}: its MD5 sum is {found}, not {md5}")
    if check is not None:
        try:
            check(part.path)
        except Malformed as error:
            part.discard()
            raise Unavailable(f"{url}: {error}") from error
    return Got(size, found)
