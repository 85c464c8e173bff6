"""Fetching weights from where their authors publish them."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import httpx

from kowalski.ml.specs import ModelError

__all__ = ["FetchError", "Progress", "fetch"]

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how far it is and, if known, how far it goes."""

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
CHUNK = 1 << 16
ERROR_NUMBER = re.compile(r"^\[Errno -?\d+\] ")


class FetchError(ModelError):
    """Weights can't be fetched; the text says from where to where, and why.

    Attributes
    ----------
    reason
        Why, without where.
    unreachable
        Whether the server could not even be reached, so that nothing else there will be.
    """

    def __init__(self, url: str, target: Path, reason: object, *, unreachable: bool = False) -> None:
        super().__init__(f"{url} can't be fetched to {target} ({reason}); it may be put there by hand")
        self.reason = str(reason)
        self.unreachable = unreachable


def fetch(url: str, target: Path, sha256: str | None, progress: Progress) -> None:
    """Fetch a file, by HTTP or from a path of this machine, and put it under its name whole and checked.

    Parameters
    ----------
    url
        ``http://``, ``https://``, ``file://`` or a path.
    target
        Where it goes; its folder is made.
    sha256
        What it must hold, if that is known.
    progress
        Told the name of the file, the bytes that are there and, if known, how many there will be.

    Raises
    ------
    FetchError
        If it can't be fetched or is not what it should be; nothing is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
            part = Path(folder) / target.name
            with part.open("wb") as file:
                _copy(url, file, lambda done, size: progress(target.name, done, size))
            _check(part, sha256)
            part.replace(target)
    except httpx.HTTPStatusError as error:
        answer = f"{error.response.status_code} {error.response.reason_phrase}"
        raise FetchError(url, target, f"the server answers {answer}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        lost = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        reason = ERROR_NUMBER.sub("", str(error)) or type(error).__name__
        raise FetchError(url, target, reason, unreachable=lost) from error
    except OSError as error:
        raise FetchError(url, target, error.strerror or error) from error
    except _WrongContentError as error:
        raise FetchError(url, target, error) from error


class _WrongContentError(Exception):
    pass


def _copy(url: str, file: IO[bytes], report: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("http://", "https://")):
        source = Path(unquote(urlsplit(url).path) if url.startswith("file://") else url).expanduser()
        with source.open("rb") as local:
            shutil.copyfileobj(local, file)
        report(file.tell(), file.tell())
        return
    with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None
        for chunk in response.iter_bytes(CHUNK):
            file.write(chunk)
            report(file.tell(), size)


def _check(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise _WrongContentError(f"what comes is not the file declared: its sha256 is {found}, not {sha256}")
