"""The packages that Kowalski is made of: their list, what is known of them, and the lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from typer.testing import CliRunner

from kowalski.cli import main
from kowalski.config import PROJECT
from kowalski.runtime import dependencies
from kowalski.runtime.errors import ServiceError


def test_the_bill_of_materials_is_valid_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    done = CliRunner().invoke(main.build(), ["sbom", "--out", str(path)])
    assert done.exit_code == 0, done.output
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
    assert problem is None, str(problem)[:500]
    found = {each["purl"]: each for each in json.loads(path.read_text())["components"]}
    locked = (PROJECT / "requirements" / "core.txt").read_text()
    for line in filter(lambda text: text[:1].isalpha(), locked.splitlines()):
        name, _, version = line.split(" ")[0].partition("==")
        assert found[f"pkg:pypi/{name}@{version}"]["scope"] == "required"
    assert found[f"pkg:pypi/ruff@{_version('ruff')}"]["scope"] == "optional"
    assert any(purl.startswith("pkg:maven/org.apache.kafka/kafka_2.13@") for purl in found)


def _version(name: str) -> str:
    return next(package.version for package in dependencies.packages() if package.name == name)


def test_the_vulnerability_service_may_be_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "core.txt"
    lock.write_text(f"jinja2==3.1.6 --hash=sha256:{'0' * 64}\n")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServiceError, match="nothing was audited"):
        dependencies.audit(lock)


ANSWER = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


def test_what_was_not_audited_does_not_pass_for_sound() -> None:
    def said(*answers: object) -> str:
        return json.dumps({"dependencies": answers, "fixes": []})

    found = dependencies.read_audit(said(ANSWER, BAD, SKIPPED), "")
    assert found.findings == (dependencies.Finding("b", "2", "PYSEC-1", ("2.1",)),)
    assert (found.audited, found.unknown) == (2, ("c",))
    with pytest.raises(ServiceError, match="nothing was audited"):
        dependencies.read_audit(said(SKIPPED, SKIPPED), "")
    with pytest.raises(ServiceError, match="pip-audit failed: something"):
        dependencies.read_audit("", "WARNING\nsomething")


def test_the_command_for_the_lock_is_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    class Done:
        returncode = 0

    def run(command: list[str], **_: object) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr("subprocess.run", run)
    assert CliRunner().invoke(main.build(), ["lock", "--upgrade"]).exit_code == 0
    assert commands[0][1:] == [str(PROJECT / "tools" / "lock.py"), "--upgrade"]
