"""Apache Kafka's jars: which ones, and how they come from Maven's central repository into the local one.

``kafka_jars.txt``, written by ``tools/lock_jars.py``, lists them with size and SHA-256, as the requirements files do
for Python's packages. They are kept in Maven's local repository (``~/.m2/repository``, or where ``M2_REPO`` points), so
that instances share them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from kowalski.runtime.errors import ServiceError

LOCK = Path(__file__).with_name("kafka_jars.txt")
TIMEOUT = 60
INSTEAD = "or set kafka.bootstrap.servers to a Kafka of your own"

Progress = Callable[[str, int, int], None]
"""Called with the name of a jar, and how many of all bytes are there."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar: its Maven coordinates, its size in bytes and its SHA-256."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The jar's file name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> Path:
        """Where the jar lies inside a Maven repository."""
        return Path(*self.group.split("."), self.artifact, self.version, self.name)

    def is_at(self, path: Path) -> bool:
        """Whether the file at ``path`` is this jar, whole and unaltered."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def locked(path: Path = LOCK) -> list[Jar]:
    """Read the list of jars."""
    jars = []
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinates, size, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, int(size), sha256))
    return jars


def repository() -> Path:
    """Folder of Maven's local repository."""
    return Path(GlobalSettings.load().repo_cache)


def resolve(progress: Progress | None = None) -> list[Path]:
    """Find all jars, downloading what is missing or damaged.

    Raises
    ------
    ServiceError
        If a jar is missing and can't be downloaded or written.
    """
    folder = repository()
    jars = locked()
    try:
        with _alone(folder):
            _download([jar for jar in jars if not jar.is_at(folder / jar.path)], jars, folder, progress)
    except requests.RequestException as error:
        raise ServiceError(_impossible(folder, f"no connection ({type(error).__name__})")) from error
    except OSError as error:
        full = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
        raise ServiceError(_impossible(folder, full)) from error
    return [folder / jar.path for jar in jars]


def _impossible(folder: Path, why: str) -> str:
    return (
        f"Kafka's jars can't be downloaded from {', '.join(_remotes().values())} to {folder}: {why}; "
        f"make that possible (M2_REPO names another folder), {INSTEAD}"
    )


def _remotes() -> dict[str, str]:
    """The central repository, and mirrors that the user's jgo configuration names."""
    return {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}


def _download(missing: list[Jar], jars: list[Jar], folder: Path, progress: Progress | None) -> None:
    total = sum(jar.size for jar in jars)
    done = total - sum(jar.size for jar in missing)

    @contextmanager
    def reporting(name: str, _: int) -> Iterator[Callable[[int], None]]:
        def update(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(name, done, total)

        yield update

    context = MavenContext(
        resolver=PythonResolver(progress_callback=reporting),
        repo_cache=folder,
        remote_repos=_remotes(),
        timeout=TIMEOUT,
    )
    for jar in missing:
        _fetch(jar, folder / jar.path, context)


def _fetch(jar: Jar, path: Path, context: MavenContext) -> None:
    path.unlink(missing_ok=True)  # what an interrupted download has left
    logger.info("downloading %s", jar.name)
    try:
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except RuntimeError as error:  # jgo's word for "no repository has it"
        raise ServiceError(_impossible(path.parent, f"there is no {jar.name}")) from error
    if not jar.is_at(path):
        path.unlink(missing_ok=True)
        raise ServiceError(f"{jar.name} as downloaded is not what {LOCK.name} promises; try again, {INSTEAD}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two instances from writing the same jar at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".kowalski.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
