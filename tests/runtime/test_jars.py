from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kowalski.runtime import jars
from kowalski.runtime.errors import ServiceError

CONTENT = {"one": b"first jar" * 100, "two": b"second jar" * 100}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository of our own with two jars, an empty local one, and the list of both jars."""
    root, lines = tmp_path / "remote", []
    for name, content in CONTENT.items():
        path = root / "org" / "example" / name / "1.0" / f"{name}-1.0.jar"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        lines.append(f"org.example:{name}:1.0 {len(content)} {hashlib.sha256(content).hexdigest()}\n")
    lock = tmp_path / "jars.txt"
    lock.write_text("# comment\n" + "".join(lines))
    listed = jars.locked(lock)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(jars, "MAVEN_CENTRAL_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(jars, "locked", lambda: listed)
    monkeypatch.setenv("M2_REPO", str(tmp_path / "local"))
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_jars_come_and_progress_reaches_the_total(remote: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    paths = jars.resolve(lambda *what: seen.append(what))
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    total = sum(map(len, CONTENT.values()))
    assert seen[-1] == ("two-1.0.jar", total, total)


def test_jars_that_are_there_need_no_network(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = jars.resolve()
    monkeypatch.setattr(jars, "MAVEN_CENTRAL_URL", "http://127.0.0.1:1")
    assert jars.resolve() == first


def test_a_damaged_jar_is_fetched_again(remote: Path) -> None:
    path = jars.resolve()[1]
    path.write_bytes(path.read_bytes()[:50])
    assert jars.resolve()[1].read_bytes() == CONTENT["two"]


def test_a_jar_with_other_content_is_refused(remote: Path) -> None:
    source = remote / "org" / "example" / "one" / "1.0" / "one-1.0.jar"
    source.write_bytes(bytes(len(CONTENT["one"])))
    with pytest.raises(ServiceError, match=r"one-1\.0\.jar as downloaded is not what jars|kafka_jars\.txt promises"):
        jars.resolve()
    assert not (jars.repository() / "org" / "example" / "one" / "1.0" / "one-1.0.jar").exists()


def test_a_jar_that_no_repository_has_is_named(remote: Path) -> None:
    (remote / "org" / "example" / "two" / "1.0" / "two-1.0.jar").unlink()
    with pytest.raises(ServiceError, match=r"there is no two-1\.0\.jar.*kafka\.bootstrap\.servers"):
        jars.resolve()


def test_no_network_says_from_where_to_where_and_what_else(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "MAVEN_CENTRAL_URL", "http://127.0.0.1:1")
    with pytest.raises(
        ServiceError, match=r"from http://127\.0\.0\.1:1 to .*local.*kafka\.bootstrap\.servers"
    ) as caught:
        jars.resolve()
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_named(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jars, "_fetch", full)
    with pytest.raises(ServiceError, match="the disk is full"):
        jars.resolve()


def test_every_listed_jar_has_a_checksum() -> None:
    listed = jars.locked(jars.LOCK)
    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl"} <= {jar.artifact for jar in listed}
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in listed)
