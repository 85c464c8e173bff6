from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kowalski.config import PROJECT
from kowalski.runtime import launch
from kowalski.runtime.programs import Program

AWKWARD = {
    "KOWALSKI_SERVER__ADMIN_PASSWORD": "50% \"quoted\" 'and' ; # \\ $HOME\nsecond line, ünïcode",
    "KOWALSKI_KAFKA__CLIENT": '{"security.protocol": "SASL_SSL"}',
}
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def show(*arguments: str, reads_settings: bool = True, **variables: str) -> Program:
    command = (sys.executable, "-c", SHOW, *arguments)
    return Program("show", command, 1, environment=variables, reads_settings=reads_settings)


def run(file: Path, name: str, environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "kowalski.runtime.launch", str(file), name]
    said = subprocess.check_output(command, cwd=PROJECT, env={**os.environ, **environ}, text=True)
    arguments, found = json.loads(said)
    return arguments, found


def test_awkward_values_arrive_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWKWARD.items():
        monkeypatch.setenv(name, value)
    launch.write(tmp_path / "programs.json", [show("a b", '"', "%", ";", OWN="1")])
    arguments, found = run(tmp_path / "programs.json", "show", dict.fromkeys(AWKWARD, "of another shell"))
    assert arguments == ["a b", '"', "%", ";"]
    assert found["OWN"] == "1"
    assert {name: found[name] for name in AWKWARD} == AWKWARD


def test_variables_of_the_shell_that_started_the_supervisor_are_forgotten(tmp_path: Path) -> None:
    launch.write(tmp_path / "programs.json", [show()])
    stale = {"KOWALSKI_SERVER__PORT": "1", "USE_TENSORFLOW": "0", launch.INSTANCE: "/here", "OTHER": "kept"}
    _, found = run(tmp_path / "programs.json", "show", stale)
    assert "KOWALSKI_SERVER__PORT" not in found
    assert "USE_TENSORFLOW" not in found
    assert found[launch.INSTANCE] == "/here"
    assert found["OTHER"] == "kept"


def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    launch.write(tmp_path / "programs.json", [show()])
    launch.write(tmp_path / "programs.json", [show("again")])
    assert (tmp_path / "programs.json").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["programs.json"]


def test_the_fingerprint_changes_with_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOWALSKI_SERVER__PORT", raising=False)
    prints = {launch.fingerprint(program) for program in (show(), show(), show("x"), show(A="1"), show(A="2"))}
    foreign = launch.fingerprint(show(reads_settings=False))
    assert len(prints) == 4
    monkeypatch.setenv("KOWALSKI_SERVER__PORT", "4001")
    assert launch.fingerprint(show()) not in prints
    assert launch.fingerprint(show(reads_settings=False)) == foreign  # it does not read settings
