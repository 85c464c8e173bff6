"""Unpacking the archives in which SavedModels are published."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from kowalski.ml.specs import ModelError

__all__ = ["unpack"]

MAX_BYTES = 8 * 1024**3
"""Largest content of an archive."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files and folders of a tar, compressed or not, whatever its ending says.

    Links and special files are left out: weights need none, and they could lead out of ``folder``.

    Raises
    ------
    ModelError
        If it is no tar, leads out of ``folder`` or holds more than `MAX_BYTES`.
    """
    left = MAX_BYTES
    try:
        with tarfile.open(archive, mode="r:*") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                left -= member.size
                if left < 0:
                    raise ModelError(f"{archive} holds more than {MAX_BYTES} bytes")
                target = folder / _inside(member.name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                if content is not None:
                    with content, target.open("wb") as file:
                        shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError) as error:
        raise ModelError(f"{archive} is no readable tar archive: {error}") from error
    except OSError as error:
        raise ModelError(f"{archive} can't be unpacked: {error.strerror or error}") from error


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{archive} holds {name}, which leads out of its folder")
    return path
