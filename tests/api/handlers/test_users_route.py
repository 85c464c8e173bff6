"""Adding, changing and removing users."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from kowalski.api.services import SERVICES
from kowalski.archive import names, users
from kowalski.archive.client import system_database
from kowalski.config import Settings

VERA = {"username": "vera", "password": "rubin", "email": "vera@example.org", "permissions": {"ZTF": [1, 2]}}


async def test_a_life(admin: Any) -> None:
    assert await admin("POST", "/api/users", VERA) == (200, {"status": "success", "message": "added user vera"})
    assert await admin("PUT", "/api/users/vera", {"password": "cooper"}) == (
        200,
        {"status": "success", "message": "edited user vera"},
    )
    for _ in range(2):  # a client whose answer was lost asks again
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


async def test_every_field_can_be_changed_alone(admin: Any) -> None:
    expected = {"username": "vera", "email": VERA["email"], "permissions": VERA["permissions"], "role": "user"}
    await admin("POST", "/api/users", VERA)
    for change in ({"email": "v@example.org"}, {"permissions": {"ztf": [1, 2, 3]}}, {"role": "admin"}, {"email": None}):
        assert (await admin("PUT", "/api/users/vera", change))[0] == 200
        expected |= change
        if "permissions" in change:
            expected["permissions"] = {"ZTF": [1, 2, 3]}
        assert await listed(admin, "vera") == expected
    await admin.log_in("vera", "rubin")


async def listed(admin: Any, name: str) -> dict[str, Any]:
    status, answer = await admin("GET", "/api/users")
    assert status == 200
    (found,) = (record for record in answer["data"] if record["username"] == name)
    assert "rubin" not in str(answer)
    assert found.pop("last_modified").endswith("Z")
    return dict(found)


async def test_the_list_shows_everybody(admin: Any, user: Any) -> None:
    _, answer = await admin("GET", "/api/users")
    assert [(record["username"], record["role"]) for record in answer["data"]] == [("admin", "admin"), ("vera", "user")]
    assert (await user("GET", "/api/users"))[0] == 403


async def test_an_admin_by_role_may_what_the_superuser_may_until_the_role_is_taken(
    archive: Settings, admin: Any, user: Any
) -> None:
    archive.server.user_cache_seconds = 0.0
    await admin("PUT", "/api/users/vera", {"role": "admin"})
    assert (await user("POST", "/api/users", {"username": "henrietta", "password": "leavitt"}))[0] == 200
    await admin("PUT", "/api/users/vera", {"role": "user"})
    assert (await user("DELETE", "/api/users/henrietta"))[0] == 403


async def test_permissions_that_name_no_programs(admin: Any) -> None:
    for wrong in (
        {"Nowhere": [1]},
        {"ZTF": 1},
        {"ZTF": ["1"]},
        {"ZTF": [True]},
        {"ZTF": [-1]},
        {"ZTF": [2**40]},
        [1],
        "all",
    ):
        status, answer = await admin("POST", "/api/users", {**VERA, "permissions": wrong})
        assert (status, answer["status"]) == (400, "error"), wrong
        assert "permissions" in answer["message"]


async def test_which_programs_a_user_sees(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any, user: Any
) -> None:
    accounts = admin.http.app[SERVICES].accounts
    archive.server.default_permissions = {"ZTF": [1]}
    stored = system_database(mongo, archive)[names.USERS]

    async def programs(name: str, survey: str = "ZTF") -> frozenset[int] | None:
        found = await users.get(admin.http.app[SERVICES].system, name)
        assert found is not None
        return accounts.programs(found, survey)

    assert await programs("admin") is None
    assert await programs("vera") == {1}
    assert await programs("vera", "another") == set()
    for permissions, expected in (({"ZTF": [1, 2]}, {1, 2}), ({"ZTF": []}, set()), ({"ZTF": "all"}, set()), ("x", {1})):
        stored.update_one({"_id": "vera"}, {"$set": {"permissions": permissions}})
        assert await programs("vera") == expected, permissions


async def test_refused(admin: Any) -> None:
    for method, path, body, message in (
        ("POST", "/api/users", {"username": "x"}, "username and password must be set"),
        ("POST", "/api/users", {"username": "x", "password": ""}, "username and password must be set"),
        ("PUT", "/api/users/admin", {"username": "root"}, "cannot rename the superuser!"),
        ("PUT", "/api/users/admin", {"password": "x"}, "server.admin_password"),
        ("PUT", "/api/users/admin", {"role": "user"}, "the superuser is always an admin"),
        ("POST", "/api/users", {"username": "a/b", "password": "x"}, "username"),
        ("PUT", "/api/users/nobody", {"role": "king"}, "role"),
        ("PUT", "/api/users/nobody", {"password": "x"}, "user nobody not found"),
        ("PUT", "/api/users/nobody", {"username": "somebody"}, "user nobody not found"),
        ("DELETE", "/api/users/admin", None, "cannot remove the superuser!"),
        ("DELETE", "/api/users/nobody", None, "user nobody not found"),
    ):
        status, answer = await admin(method, path, body)
        assert (status, answer["status"]) == (400, "error"), (method, path)
        assert message in answer["message"]
