"""Fetching from a server of our own: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kowalski.ml.fetch import FetchError, fetch
from kowalski.testing.services import free_ports

WEIGHTS = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the weights under names that say how it goes."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/weights")
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unknown-size":
            self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()
        self.wfile.write(WEIGHTS[: len(WEIGHTS) // 2] if self.path == "/cut" else WEIGHTS)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


class Told(list[tuple[str, int, int | None]]):
    """What progress was told."""

    def __call__(self, name: str, done: int, total: int | None) -> None:
        self.append((name, done, total))


@pytest.mark.parametrize("path", ["weights", "moved", "unknown-size"])
def test_weights_arrive_whole(server: str, tmp_path: Path, path: str) -> None:
    told = Told()
    target = tmp_path / "models" / "braai.h5"
    fetch(f"{server}/{path}", target, DIGEST, told)
    assert target.read_bytes() == WEIGHTS
    assert list(target.parent.iterdir()) == [target]
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1] == ("braai.h5", len(WEIGHTS), None if path == "unknown-size" else len(WEIGHTS))


@pytest.mark.parametrize(
    ("path", "digest", "reason"),
    [
        ("weights", "0" * 64, f"not the file declared: its sha256 is {DIGEST}"),
        ("gone", None, "the server answers 404 Not Found"),
        ("cut", None, "received 128000 bytes, expected 256000"),
    ],
)
def test_what_fails_leaves_nothing_but_a_sentence(
    server: str, tmp_path: Path, path: str, digest: str | None, reason: str
) -> None:
    target = tmp_path / "braai.h5"
    with pytest.raises(FetchError) as caught:
        fetch(f"{server}/{path}", target, digest, Told())
    assert str(caught.value).startswith(f"{server}/{path} can't be fetched to {target} (")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not caught.value.unreachable
    assert list(tmp_path.iterdir()) == []


def test_the_file_before_survives_a_failure(server: str, tmp_path: Path) -> None:
    target = tmp_path / "braai.h5"
    target.write_bytes(b"before")
    with pytest.raises(FetchError):
        fetch(f"{server}/cut", target, None, Told())
    assert target.read_bytes() == b"before"


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(FetchError, match=r"\(Connection refused\)|\(All connection attempts failed\)") as caught:
        fetch(f"http://127.0.0.1:{port}/weights", tmp_path / "braai.h5", None, Told())
    assert caught.value.unreachable


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_weights_of_this_machine_are_copied(tmp_path: Path, form: str) -> None:
    source = tmp_path / "my weights.h5"
    source.write_bytes(WEIGHTS)
    fetch(form.format(source), tmp_path / "models" / "braai.h5", DIGEST, Told())
    assert (tmp_path / "models" / "braai.h5").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("url", "reason"), [("/nowhere/w.h5", "No such file or directory"), ("http://[bad", "."), ("ftp://a/b", "No such")]
)
def test_an_address_that_leads_nowhere_is_named(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        fetch(url, tmp_path / "braai.h5", None, Told())


def test_a_folder_that_can_not_be_made_is_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"a file where the folder should be")
    with pytest.raises(FetchError, match=r"File exists|Not a directory"):
        fetch(f"{server}/weights", tmp_path / "models" / "braai.h5", None, Told())
