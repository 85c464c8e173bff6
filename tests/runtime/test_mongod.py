from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from kowalski.runtime import mongod
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_configuration_is_private_and_without_scripting(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run", database={"cache_gb": 0.5})
    *_, configuration = mongod.command(settings)
    written = yaml.safe_load(Path(configuration).read_text())
    assert written["net"] == {
        "bindIp": "127.0.0.1",
        "port": settings.database.port,
        "unixDomainSocket": {"enabled": False},
    }
    assert written["security"]["authorization"] == "enabled"
    assert written["security"]["javascriptEnabled"] is False
    assert written["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == 0.5
    assert stat.S_IMODE(Path(written["security"]["keyFile"]).stat().st_mode) == 0o600


def test_command_twice_keeps_the_key(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    key = Path(mongod.command(settings)[-1]).parent / "keyfile"
    first = key.read_text()
    assert mongod.command(settings)
    assert key.read_text() == first


def test_server_on_the_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = program(tmp_path / "mongod", "echo db version v7")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert mongod.find(tmp_path) == own


def test_without_any_server_one_sentence_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ServiceError, match=r"no mongod on PATH.*Linux x86_64 only.*database\.uri"):
        mongod.find(tmp_path)


def test_program_that_may_not_be_made_executable_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged" / "mongod"
    packaged.parent.mkdir()
    packaged.write_bytes(b"#!/bin/sh\n")
    packaged.chmod(0o644)
    original = Path.chmod

    def refuse(path: Path, mode: int) -> None:
        if path == packaged:
            raise PermissionError(1, "Operation not permitted")
        original(path, mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    copied = mongod._executable(packaged, tmp_path / "run")
    assert copied == tmp_path / "run" / "bin" / "mongod"
    assert copied.read_bytes() == packaged.read_bytes()
    assert copied.stat().st_mode & stat.S_IXUSR


def test_program_gets_its_executable_bit(tmp_path: Path) -> None:
    packaged = tmp_path / "mongod"
    packaged.write_bytes(b"")
    packaged.chmod(0o644)
    assert mongod._executable(packaged, tmp_path) == packaged
    assert packaged.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "echo 'x: error while loading shared libraries: libcrypto.so.3: cannot open' >&2; exit 127",
            r"shared library libcrypto\.so\.3, which this machine lacks; install OpenSSL 3.*database\.uri",
        ),
        (
            "echo 'x: error while loading shared libraries: libodd.so.9: cannot open' >&2; exit 127",
            r"install libodd\.so\.9",
        ),
        ("kill -ILL $$", r"processor with AVX"),
        ("echo no such thing >&2; exit 3", r"can't be run here \(no such thing\)"),
    ],
)
def test_why_a_server_cannot_run(tmp_path: Path, script: str, sentence: str) -> None:
    with pytest.raises(ServiceError, match=sentence):
        mongod.check(program(tmp_path / "mongod", script))


def test_server_for_another_machine_is_refused(tmp_path: Path) -> None:
    alien = tmp_path / "mongod"
    alien.write_bytes(b"\x7fELF" + bytes(60))
    alien.chmod(0o755)
    with pytest.raises(ServiceError, match=r"Exec format error.*database\.uri"):
        mongod.check(alien)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    (tmp_path / "run" / "mongod").write_text("in the way")
    with pytest.raises(ServiceError, match=r"MongoDB's folder .*/run/mongod can't be written"):
        mongod.command(settings)
