"""``kowalski.py`` itself, in small projects of its own: what it installs, when, and what it says when it can't."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kowalski.config import PROJECT

STUB = "import sys; print('arguments:', sys.argv[1:])"
SETTING = """
import os, sys
wanted = os.environ.get("WANTS_TENSORFLOW", "true")
if wanted == "nonsense":
    sys.exit("Error: no")
print(wanted)
"""
NOWHERE = "http://127.0.0.1:9/simple"
MISSING = "there-is-no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n"


@pytest.fixture
def script() -> ModuleType:
    """The script as a module; its name is the package's, so it is loaded by its path."""
    specification = importlib.util.spec_from_file_location("bootstrap", PROJECT / "kowalski.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that needs no packages, after its first command."""
    project = tmp_path_factory.mktemp("made") / "a project"
    (project / "elsewhere").mkdir(parents=True)
    (project / ".venv").symlink_to(project / "elsewhere")  # as on a disk with more space
    for folder in ("requirements", "kowalski/cli", "kowalski/config"):
        (project / folder).mkdir(parents=True)
    for group in ("core", "models", "test"):
        (project / "requirements" / f"{group}.txt").write_text(f"# packages of {group}\n")
    for package in ("kowalski", "kowalski/cli", "kowalski/config"):
        (project / package / "__init__.py").write_text("")
    (project / "kowalski/cli/__main__.py").write_text(STUB)
    (project / "kowalski/config/__main__.py").write_text(SETTING)
    shutil.copy(PROJECT / "kowalski.py", project)
    done = run(project, "up")
    assert done.returncode == 0, done.stderr
    assert "making" in done.stderr
    assert "installing core packages" in done.stderr
    assert done.stdout == "arguments: ['up']\n"
    return project


@pytest.fixture
def project(made: Path) -> Path:
    """The same project for each test, with its packages installed."""
    for group in ("core", "models", "test"):
        (made / "requirements" / f"{group}.txt").write_text(f"# packages of {group}\n")
    done = run(made, "up")
    assert done.returncode == 0, done.stderr
    return made


def run(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KOWALSKI_", "PYTHON", "USE_"))}
    return subprocess.run(
        [sys.executable, str(project / "kowalski.py"), *arguments],
        cwd="/",
        env={**kept, "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def stamps(project: Path) -> set[str]:
    return {path.stem.removeprefix("installed-") for path in (project / ".venv").glob("installed-*.sha256")}


def test_a_second_run_installs_nothing(project: Path) -> None:
    done = run(project, "up", "--x", "a b")
    assert done.stderr == ""
    assert done.stdout == "arguments: ['up', '--x', 'a b']\n"


def test_a_new_list_is_installed(project: Path) -> None:
    (project / "requirements/core.txt").write_text("# other packages\n")
    done = run(project, "status")
    assert "installing core packages" in done.stderr
    assert "models" not in done.stderr
    assert run(project, "status").stderr == ""


def test_build_installs_anew(project: Path) -> None:
    for arguments in (("build",), ("up", "--build")):
        done = run(project, *arguments)
        assert "installing core packages" in done.stderr
        assert "installing models packages" in done.stderr


def test_tests_bring_what_they_need(project: Path) -> None:
    (project / ".venv/installed-test.sha256").unlink(missing_ok=True)
    for command in ("test", "lint", "develop"):
        run(project, command)
        assert "test" in stamps(project)


def test_models_only_where_they_are_wanted(project: Path) -> None:
    (project / ".venv/installed-models.sha256").unlink()
    assert "models" not in run(project, "up", WANTS_TENSORFLOW="false").stderr
    assert "models" not in stamps(project)
    assert "installing models packages" in run(project, "up").stderr


def test_settings_that_can_not_be_read_end_it(project: Path) -> None:
    (project / ".venv/installed-models.sha256").unlink()
    done = run(project, "up", WANTS_TENSORFLOW="nonsense")
    assert (done.returncode, done.stderr, done.stdout) == (1, "Error: no\n", "")


def test_a_broken_environment_is_made_again(project: Path) -> None:
    (project / ".venv/bin/python").unlink()
    done = run(project, "up")
    assert "making" in done.stderr
    assert done.stdout == "arguments: ['up']\n"


def test_half_a_package_is_none(project: Path) -> None:
    (site,) = (project / ".venv/lib").glob("python3.*/site-packages")
    half, whole = site / "half-1.0.dist-info", site / "whole-1.0.dist-info"
    for folder in (half, whole):
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder.name[:-15]}\nVersion: 1.0\n")
    (whole / "RECORD").write_text("")
    (project / ".venv/installed-core.sha256").unlink()
    assert run(project, "up").returncode == 0
    assert not half.exists()
    assert whole.exists()
    shutil.rmtree(whole)


def test_without_a_network_it_says_what_from_where_to_where(project: Path) -> None:
    (project / "requirements/core.txt").write_text(MISSING)
    done = run(project, "up", PIP_INDEX_URL=NOWHERE, PIP_RETRIES="1")
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    for part in ("core packages", "127.0.0.1", str(project / "elsewhere"), "there is no connection", "PIP_INDEX_URL"):
        assert part in sentence
    assert "Traceback" not in done.stderr
    assert "core" not in stamps(project)  # so the next run tries again


def test_what_runs_nothing_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "kowalski.py", tmp_path)
    for command, status in (("down", 0), ("status", 1), ("logs", 1)):
        done = run(tmp_path, command)
        assert done.returncode == status
        assert done.stdout.startswith("Nothing is installed yet")
    for arguments in (("--help",), (), ("up", "--help")):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0
        assert "./kowalski.py up" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["kowalski.py"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["up"], "up"),
        (["--config", "up", "down"], "down"),
        (["--config=x", "test", "-k", "up"], "test"),
        (["--help"], None),
        ([], None),
    ],
)
def test_which_command_it_is(script: ModuleType, arguments: list[str], command: str | None) -> None:
    assert script.command_of(arguments) == command


def test_an_old_python_looks_for_a_newer_one(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "python3.12"
    newer.write_text("#!/bin/sh\nexit 0\n")
    newer.chmod(0o755)
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexit 127\n")  # as a shim does for a version it lacks
    (tmp_path / "python3.13").chmod(0o755)
    monkeypatch.setattr(script.sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.suitable_python() == str(newer)


@pytest.mark.parametrize("version", [(3, 8), (3, 14)])
def test_without_a_suitable_python_it_says_so(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: tuple[int, int]
) -> None:
    monkeypatch.setattr(script.sys, "version_info", (*version, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(script.InstallError, match=rf"needs Python 3.11, 3.12 or 3.13.*this is Python 3\.{version[1]}"):
        script.suitable_python()


def test_without_venv_it_says_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "has_venv", lambda python: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(script.InstallError, match=r"apt install python3\.1[123]-venv"):
        script.suitable_python()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device: 'x'", "the disk is full"),
        ("ERROR: [Errno 13] Permission denied: '/x'", "the folder can't be written"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one that requirements/"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", "there is no connection"),
        ("ERROR: Could not find a version that satisfies x (from versions: none)", "it can't be reached, or has no"),
        ("ERROR: Something else", "Something else"),
        ("", "pip gave up"),
    ],
)
def test_why_an_installation_failed(script: ModuleType, said: str, reason: str) -> None:
    assert reason in script.failure("core", said)


def test_an_index_is_named_without_its_password(script: ModuleType) -> None:
    said = script.failure("core", "Looking in indexes: https://me:secret@index.example.org/simple\n")
    assert "from index.example.org to" in said
    assert "secret" not in said
