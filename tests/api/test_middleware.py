"""What every answer has, and what of a request can't be stored."""

from __future__ import annotations

from typing import Any


async def test_what_mongodb_cannot_take_is_a_400(admin: Any) -> None:
    for wrong in (
        {"username": "\ud800", "password": "x"},
        {"username": "x", "password": "\ud800"},
        {"username": "x", "password": "y", "email": "\ud800"},
        {"username": "x", "password": "y", "permissions": {"a\0b": 1}},
    ):
        status, answer = await admin("POST", "/api/users", wrong)
        assert (status, answer["status"]) == (400, "error"), wrong


async def test_headers(nobody: Any) -> None:
    async with nobody.http.get("/", headers={"X-Request-ID": "night-17"}) as answer:
        assert answer.headers["X-Request-ID"] == "night-17"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "Kowalski"
    async with nobody.http.get("/", headers={"X-Request-ID": "two words"}) as answer:
        assert answer.headers["X-Request-ID"] not in ("", "two words")
