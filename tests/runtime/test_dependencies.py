"""The packages that Kowalski is made of: their list, what is known of them, and the lock."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
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


@pytest.fixture
def osv() -> Iterator[str]:
    """A service that speaks OSV and knows one vulnerability, of jinja2 3.1.5."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bad = (asked["package"]["name"], asked["version"]) == ("jinja2", "3.1.5")
            affected = {"package": asked["package"], "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "3.1.6"}]}]}
            answer = {"vulns": [{"id": "PYSEC-2025-1", "summary": "bad", "affected": [affected]}]} if bad else {}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def test_the_command_audits_what_is_locked(osv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kowalski.cli.dependencies.PROJECT", tmp_path)
    monkeypatch.setattr(dependencies, "GROUPS", ("core",))
    lock = tmp_path / "requirements" / "core.txt"
    lock.parent.mkdir()
    packages = ("jinja2==3.1.5", "markupsafe==3.0.2")
    lock.write_text("".join(f"{package} --hash=sha256:{'0' * 64}\n" for package in packages))
    done = CliRunner().invoke(main.build(), ["audit", "--osv-url", osv])
    assert done.exit_code == 1, done.output
    assert "core: jinja2 3.1.5: PYSEC-2025-1, fixed in 3.1.6" in done.output
    assert "core: 2 packages audited, 1 vulnerabilities" in done.output


def wheel(index: Path, name: str, version: str) -> None:
    """Put a package that holds nothing into a folder that is served as an index."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that uv takes for the only index there is."""
    folder = tmp_path / "index"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


def test_one_command_refreshes_the_lock(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a project with packages of its own: what is locked stays until --upgrade, alike in all groups."""
    (tmp_path / "tools").mkdir()
    shutil.copy(PROJECT / "tools" / "lock.py", tmp_path / "tools")
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for group, wanted in (("core", "alpha"), ("models", "beta"), ("test", "alpha\nbeta<2")):
        (requirements / f"{group}.in").write_text(f"{wanted}\n")
        (requirements / f"{group}.txt").touch()
    monkeypatch.setattr("kowalski.cli.dependencies.PROJECT", tmp_path)

    def locked(*options: str) -> dict[str, list[str]]:
        assert CliRunner().invoke(main.build(), ["lock", *options]).exit_code == 0
        texts = {group: (requirements / f"{group}.txt").read_text() for group in dependencies.GROUPS}
        assert not [text for text in texts.values() if "127.0.0.1" in text]
        for text in texts.values():
            assert text.count("--hash=sha256:") == text.count("==")
        return {group: re.findall(r"^(\S+==\S+)", text, re.M) for group, text in texts.items()}

    for name in ("alpha", "beta"):
        wheel(index, name, "1.0")
    before = {"core": ["alpha==1.0"], "models": ["beta==1.0"], "test": ["alpha==1.0", "beta==1.0"]}
    assert locked() == before
    for name, version in (("alpha", "1.1"), ("beta", "1.2"), ("beta", "2.0")):
        wheel(index, name, version)
    assert locked() == before
    assert locked("--upgrade") == {
        "core": ["alpha==1.1"], "models": ["beta==1.2"], "test": ["alpha==1.1", "beta==1.2"],
    }  # fmt: skip
