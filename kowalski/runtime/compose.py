"""Kowalski in containers: finds Docker and Compose, writes the files that containers read, and runs the commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kowalski.config import PROJECT, Settings
from kowalski.config.secrets import FILE, Secrets
from kowalski.runtime.errors import ServiceError

Version = tuple[int, int]

OLDEST_DOCKER: Version = (23, 0)
OLDEST_COMPOSE: Version = (2, 24)
"""The first that knows ``!reset``; ``configs`` with a content are a little older."""
IMAGE_USER = 10001
PATIENCE = 30
"""Seconds for Docker to say which version it is."""


def check() -> None:
    """See that Docker and Compose are there, new enough, and answer.

    Raises
    ------
    ServiceError
        If not; the text says which, and what would help.
    """
    if shutil.which("docker") is None:
        raise ServiceError("there is no docker on PATH; install Docker Engine, or leave out --docker")
    engine = _version(_ask("docker", "--version"), "docker")
    if engine < OLDEST_DOCKER:
        raise ServiceError(f"this is Docker {_text(engine)}, which is too old: {_text(OLDEST_DOCKER)} is needed")
    answer = _ask("docker", "compose", "version", "--short")
    if answer.returncode != 0:
        raise ServiceError("Docker has no command `compose`; install its plugin docker-compose-plugin, version 2")
    compose = _version(answer, "docker compose")
    if compose < OLDEST_COMPOSE:
        raise ServiceError(f"this is Compose {_text(compose)}, which is too old: {_text(OLDEST_COMPOSE)} is needed")
    daemon = _ask("docker", "info", "--format", "{{.ServerVersion}}")
    if daemon.returncode != 0:
        said = " ".join((daemon.stderr or daemon.stdout).split())
        raise ServiceError(f"Docker does not answer: {said or 'is its daemon running?'}")


def up(settings: Settings, *, build: bool) -> None:
    """Start everything in containers and wait until it is healthy; what runs and has not changed is left alone."""
    _check_settings(settings)
    write_files(settings)
    build_option = ["--build"] if build else []
    _run(settings, "up", "--detach", "--wait", "--remove-orphans", *build_option)


def down(settings: Settings) -> None:
    """Stop and remove the containers; volumes stay."""
    _run(settings, "down", "--remove-orphans")


def status(settings: Settings, *, as_json: bool) -> int:
    """Show the containers; returns Compose's exit status."""
    return _run(settings, "ps", "--all", *(["--format", "json"] if as_json else []), check=False)


def test(settings: Settings, arguments: Sequence[str]) -> int:
    """Build the image of the tests and run them in it; returns their exit status."""
    _run(settings, "build", "test")
    command = ["python", "-m", "kowalski.cli", "test", *arguments]
    return _run(settings, "run", "--rm", "--no-deps", "test", *command, check=False)


def command(settings: Settings, *arguments: str) -> list[str]:
    """Build the command line of Compose."""
    files = [PROJECT / "docker-compose.defaults.yaml"]
    if settings.docker.variant != "plain":
        files.append(PROJECT / f"docker-compose.{settings.docker.variant}.defaults.yaml")
    options = [part for file in (*files, *settings.docker.files) for part in ("--file", str(file))]
    return ["docker", "compose", "--project-directory", str(PROJECT), *options, *arguments]


def environment(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Build the variables that the Compose files ask for; those that are set already win."""
    docker = settings.docker
    profiles = [survey.lower() for survey in settings.enabled_surveys] + ["courier"] * settings.delivers
    own = {
        "COMPOSE_PROJECT_NAME": docker.project,
        "COMPOSE_PROFILES": ",".join(profiles),
        "KOWALSKI_SECRETS": str(folder(settings)),
        "KOWALSKI_UID": str(_user()),
        "KOWALSKI_LISTEN": docker.listen,
        "KOWALSKI_WORKERS": str(settings.dask.workers),
        "KOWALSKI_TENSORFLOW": str(settings.ml.use_tensorflow).lower(),
        "MONGO_CACHE_GB": f"{settings.database.cache_gb:g}",
        "KAFKA_HEAP": settings.kafka.heap,
    }
    if docker.domain is not None:
        own["KOWALSKI_DOMAIN"] = docker.domain
    if docker.email is not None:
        own["KOWALSKI_EMAIL"] = docker.email
    if settings.kafka.bootstrap.servers is not None:
        own["KOWALSKI_KAFKA"] = settings.kafka.bootstrap.servers
    return own | dict(environ)


def folder(settings: Settings) -> Path:
    """Folder of the files that containers read."""
    return settings.path.run / "docker"


def write_files(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Write settings and secrets for the containers, each readable by the user that they run as and by nobody else."""
    secrets = Secrets.ensure(settings.path.run)
    named = environ.get("KOWALSKI_CONFIG")
    source = Path(named) if named else PROJECT / "config.yaml"
    contents = {
        "config.yaml": source.read_text() if source.is_file() else "{}\n",
        FILE: (settings.path.run / FILE).read_text(),
        "mongo_password": settings.database.admin_password or secrets.admin_password,
        "replica_key": secrets.replica_key,
    }
    target = folder(settings)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in contents.items():
        path = target / name
        if path.is_file() and path.read_text() == text:
            continue  # containers hold the file itself: a new one would make them start again
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        if os.getuid() == 0:
            os.chown(path, IMAGE_USER, 0)


def _check_settings(settings: Settings) -> None:
    server, docker = settings.server, settings.docker
    if server.admin_password == "admin":
        raise ServiceError("in containers the API listens on all addresses; set server.admin_password in config.yaml")
    if docker.variant == "traefik" and (docker.domain is None or docker.email is None):
        raise ServiceError("docker.variant: traefik needs docker.domain and docker.email, for the certificate")


def _user() -> int:
    return os.getuid() or IMAGE_USER


def _run(settings: Settings, *arguments: str, check: bool = True) -> int:
    done = subprocess.run(command(settings, *arguments), env=environment(settings), cwd=PROJECT, check=False)
    if check and done.returncode != 0:
        raise ServiceError(f"`docker compose {arguments[0]}` has failed ({done.returncode}); it has said why above")
    return done.returncode


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{' '.join(arguments)}` gives no answer within {PATIENCE} s") from error


def _version(answer: subprocess.CompletedProcess[str], what: str) -> Version:
    found = re.search(r"(\d+)\.(\d+)", answer.stdout)
    if found is None:
        said = " ".join((answer.stdout + answer.stderr).split())
        raise ServiceError(f"`{what}` does not say its version: {said or 'nothing'}")
    return int(found[1]), int(found[2])


def _text(version: Version) -> str:
    return ".".join(map(str, version))
