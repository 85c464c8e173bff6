"""What every request gets: the envelope, its headers, and an error that clients can read."""

from __future__ import annotations

from typing import Any

from kowalski.config import Settings

GREETING = {"status": "success", "message": "greetings from Kowalski!"}


async def test_a_greeting(user: Any) -> None:
    assert await user("GET", "/") == (200, GREETING)


async def test_errors_without_a_token(nobody: Any) -> None:
    for method, path, status, message in [
        ("GET", "/", 401, "Unauthorized"),
        ("POST", "/api/queries", 401, "Unauthorized"),
        ("GET", "/api/filters/1", 401, "Unauthorized"),
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "/api/filters/one", 404, "Not Found"),
        ("DELETE", "/api/queries", 405, "Method Not Allowed"),
        ("PUT", "/", 405, "Method Not Allowed"),
    ]:
        assert await nobody(method, path) == (status, {"status": "error", "message": message}), (method, path)


async def test_a_user_is_no_administrator(user: Any) -> None:
    for method, path in [
        ("POST", "/api/users"),
        ("PUT", "/api/users/vera"),
        ("DELETE", "/api/users/vera"),
        ("GET", "/api/filters/1"),
        ("POST", "/api/filters"),
        ("PATCH", "/api/filters"),
        ("DELETE", "/api/filters/1"),
    ]:
        assert await user(method, path) == (403, {"status": "error", "message": "Forbidden"}), (method, path)


async def test_a_wrong_method_is_told_the_right_one(nobody: Any) -> None:
    async with nobody.http.get("/api/queries") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    async with nobody.http.head("/") as answer:
        assert answer.status == 405


async def test_a_body_that_is_no_request_is_a_400(admin: Any) -> None:
    for body in (b"", b"{", b"[]", b"3", b"\xff", b'{"query_type": ' + b"[" * 5000, b'{"query_type": {"$": 1}}'):
        for path in ("/api/queries", "/api/filters", "/api/users", "/api/auth"):
            status, answer = await admin("POST", path, data=body)
            assert (status, answer["status"]) == (400, "error"), (path, body)
            assert answer["message"].startswith("ValidationError: ")


async def test_what_mongodb_cannot_take_is_a_400(admin: Any) -> None:
    for wrong in (
        {"username": "\ud800", "password": "x"},
        {"username": "x", "password": "\ud800"},
        {"username": "x", "password": "y", "email": "\ud800"},
        {"username": "x", "password": "y", "permissions": {"a\0b": 1}},
    ):
        status, answer = await admin("POST", "/api/users", wrong)
        assert (status, answer["status"]) == (400, "error"), wrong


async def test_a_large_body_is_refused_without_asking_to_repeat_it(archive: Settings, admin: Any) -> None:
    body = b'{"username": "' + b"x" * archive.server.client_max_size + b'"}'
    headers = {"Authorization": admin.token}
    async with admin.http.post("/api/users", data=body, headers=headers) as answer:
        assert answer.status == 413
        assert "Retry-After" not in answer.headers
        assert (await answer.json())["status"] == "error"


async def test_headers(nobody: Any) -> None:
    async with nobody.http.get("/", headers={"X-Request-ID": "night-17"}) as answer:
        assert answer.headers["X-Request-ID"] == "night-17"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "Kowalski"
    async with nobody.http.get("/", headers={"X-Request-ID": "two words"}) as answer:
        assert answer.headers["X-Request-ID"] not in ("", "two words")


async def test_health_needs_no_token(nobody: Any) -> None:
    status, answer = await nobody("GET", "/healthz")
    assert (status, answer["status"]) == (200, "success")
