"""Adding, changing and removing users."""

from __future__ import annotations

from typing import Any

VERA = {"username": "vera", "password": "rubin", "email": "vera@example.org", "permissions": {"ZTF": [1, 2]}}


async def test_a_life(admin: Any) -> None:
    assert await admin("POST", "/api/users", VERA) == (200, {"status": "success", "message": "added user vera"})
    assert await admin("PUT", "/api/users/vera", {"password": "cooper"}) == (
        200,
        {"status": "success", "message": "edited user vera"},
    )
    assert (await admin("PUT", "/api/users/vera", {"username": "vera.rubin"}))[0] == 200
    await admin.log_in("vera.rubin", "cooper")
    assert (await admin("POST", "/api/auth", {"username": "vera", "password": "cooper"}))[0] == 401
    assert await admin("DELETE", "/api/users/vera.rubin") == (
        200,
        {"status": "success", "message": "removed user vera.rubin"},
    )


async def test_a_repeated_request_succeeds_and_another_user_of_that_name_does_not(admin: Any) -> None:
    for _ in range(2):
        assert (await admin("POST", "/api/users", VERA))[0] == 200
    for other in ({"password": "x"}, {"email": None}, {"permissions": {}}):
        assert await admin("POST", "/api/users", {**VERA, **other}) == (
            409,
            {"status": "error", "message": "user vera already exists"},
        )


async def test_a_rename_does_not_overwrite(admin: Any) -> None:
    await admin("POST", "/api/users", VERA)
    await admin("POST", "/api/users", {**VERA, "username": "henrietta"})
    assert (await admin("PUT", "/api/users/vera", {"username": "henrietta"}))[0] == 409
    await admin.log_in("vera", "rubin")


async def test_refused(admin: Any) -> None:
    for method, path, body, message in (
        ("POST", "/api/users", {"username": "x"}, "username and password must be set"),
        ("POST", "/api/users", {"username": "x", "password": ""}, "username and password must be set"),
        ("PUT", "/api/users/admin", {"username": "root"}, "cannot rename the superuser!"),
        ("PUT", "/api/users/admin", {"password": "x"}, "server.admin_password"),
        ("PUT", "/api/users/nobody", {"password": "x"}, "user nobody not found"),
        ("PUT", "/api/users/nobody", {"username": "somebody"}, "user nobody not found"),
        ("DELETE", "/api/users/admin", None, "cannot remove the superuser!"),
        ("DELETE", "/api/users/nobody", None, "user nobody not found"),
    ):
        status, answer = await admin(method, path, body)
        assert (status, answer["status"]) == (400, "error"), (method, path)
        assert message in answer["message"]
