"""What is no HTTP, or breaks off, is answered in JSON as every other error, by the server as `up` starts it."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

LONG = b"a" * 70_000
POST = b"POST /api/auth HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def exchange(api: Any, *parts: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send bytes, the second part once the server has begun with the first, and read an answer to its end."""
    with socket.create_connection(("127.0.0.1", api.settings.server.port), timeout=60) as connection:
        for number, part in enumerate(parts):
            if number:  # the server waits for the body when it says so
                assert connection.recv(1000).startswith(b"HTTP/1.1 100")
            connection.sendall(part)
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            headers = {}
            while line := answer.readline().strip().decode():
                name, value = line.split(": ", 1)
                headers[name.lower()] = value
            return status, headers, json.loads(answer.read(int(headers["content-length"])))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([b"nonsense\r\n\r\n"], "Invalid method encountered: b'nonsense'"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"], "HTTPS"),
        ([b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"], "Invalid HTTP version"),
        ([b"GET /" + LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n"], "Got more than 65536 bytes"),
        ([b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + LONG + b"\r\n\r\n"], "Got more than 65536 bytes"),
        ([b"GET / HTTP/1.1\r\nbad header\r\n\r\n"], "Invalid header token"),
        ([POST + b"Content-Length: x\r\n\r\n"], "Invalid character in Content-Length"),
        ([POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"], "Invalid character in chunk size"),
        ([POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", b"zz\r\n"], "chunks are broken"),
        ([POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"], "content-encoding: gzip"),
    ],
    ids=["method", "tls", "version", "line", "header", "token", "length", "chunk", "later-chunk", "gzip"],
)
def test_what_nobody_can_read(served: Any, parts: list[bytes], told: str) -> None:
    status, headers, body = exchange(served, *parts)
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    assert headers["server"] == "Kowalski"
    assert headers["x-content-type-options"] == "nosniff"
    assert body.keys() == {"status", "message", "request_id"}
    assert body["status"] == "error"
    assert told in body["message"]
    assert body["request_id"] == headers["x-request-id"]
    log = (served.settings.path.run / "logs" / "api.log").read_text()
    assert body["request_id"] in log
    assert "Traceback" not in log
