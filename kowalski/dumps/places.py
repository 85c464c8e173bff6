"""Where dumps lie: a folder, or a bucket behind a URL (through fsspec)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsspec.core import url_to_fs

from kowalski.dumps.errors import DumpError

PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs"}
"""What to install for each scheme; they are large, so they don't come with the rest."""
RAISED = {
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
}
"""What these packages raise besides `OSError`, by module: no credentials, or a server that is not there."""


def errors() -> tuple[type[Exception], ...]:
    """Give the classes of `RAISED`, as far as their packages have been loaded."""
    return tuple(getattr(sys.modules[module], name) for module, name in RAISED.items() if module in sys.modules)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, here or elsewhere; names within it are separated by slashes."""

    files: Any
    """The fsspec file system."""
    root: str

    @classmethod
    def of(cls, where: str) -> Place:
        """Find the place that a path or URL (``gs://…``, ``s3://…``) names.

        Raises
        ------
        DumpError
            If the package for its scheme is not installed, or there is no such scheme.
        """
        scheme = where.partition("://")[0] if "://" in where else "file"
        try:
            files, root = url_to_fs(where if "://" in where else str(Path(where).expanduser().absolute()))
        except ImportError as error:
            package = PACKAGES.get(scheme)
            advice = f"install it with .venv/bin/pip install {package}" if package else str(error)
            raise DumpError(f"{where} needs the package {package or 'for ' + scheme}: {advice}") from error
        except ValueError as error:
            raise DumpError(f"{where} is no folder and no URL that can be opened: {error}") from error
        return cls(files, root.rstrip("/"))

    def names(self, below: str = "") -> list[str]:
        """List the files directly in a folder; none if there is no such folder."""
        folder = self._path(below) if below else self.root
        try:
            entries = self.files.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def exists(self, name: str = "") -> bool:
        """Whether there is such a file or folder."""
        return bool(self.files.exists(self._path(name) if name else self.root))

    def size(self, name: str) -> int:
        """Size of a file in bytes."""
        return int(self.files.size(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return cast(BinaryIO, self.files.open(self._path(name), "rb"))

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that is there as a whole or not at all, whatever interrupts the writing."""
        path = self._path(name)
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        file = self.files.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            file.close()
            file.discard()
            raise
        file.commit()

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"
