"""Tokens and logins: who gets in, for how long, and who does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from kowalski.api.app import create_app
from kowalski.archive import counts, names, users
from kowalski.archive.client import system_database
from kowalski.config import Settings

GONE = (401, {"status": "error", "message": "Unauthorized"})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    settings.server.user_cache_seconds = 0.0
    return settings


async def test_tokens_expire(archive: Settings, user: Any) -> None:
    claims = jwt.decode(user.token, options={"verify_signature": False})
    assert claims["exp"] == pytest.approx(time.time() + archive.server.jwt_exp_delta_seconds, abs=60)
    old = jwt.encode({**claims, "exp": int(time.time()) - 1}, archive.server.jwt_secret_key)
    expected = (400, {"status": "error", "message": "token has expired"})
    assert await user("GET", "/", headers={"Authorization": old}) == expected


async def test_a_deleted_user_is_out_even_if_the_name_comes_back(admin: Any, user: Any) -> None:
    await admin("DELETE", "/api/users/vera")
    assert await user("GET", "/") == GONE
    await admin("POST", "/api/users", {"username": "vera", "password": "rubin"})
    assert await user("GET", "/") == GONE


async def test_a_new_password_ends_old_tokens(admin: Any, user: Any) -> None:
    await admin("PUT", "/api/users/vera", {"password": "cooper"})
    assert await user("GET", "/") == GONE
    assert (await admin("POST", "/api/auth", {"username": "vera", "password": "rubin"}))[0] == 401
    again = await admin.log_in("vera", "cooper")
    assert (await again("GET", "/"))[0] == 200


async def test_requests_at_once_look_their_user_up_once(
    archive: Settings, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after one look that failed it is looked again."""
    archive.server.user_cache_seconds = 60.0
    asked: list[str] = []
    read = users.get

    async def get(system: Any, name: str) -> users.User | None:
        asked.append(name)
        if len(asked) == 1:
            raise AutoReconnect("gone")
        return await read(system, name)

    monkeypatch.setattr(users, "get", get)
    assert (await user("GET", "/"))[0] == 503
    answers = await asyncio.gather(*(user("GET", "/") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert asked == ["vera", "vera"]


async def test_an_account_is_throttled_without_locking_out_others(
    archive: Settings, admin: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.server.login_attempts_per_minute = 3
    minute = frozen(monkeypatch)
    wrong = {"username": "vera", "password": "no"}
    tries = await asyncio.gather(*(admin("POST", "/api/auth", wrong) for _ in range(8)))
    assert sorted(status for status, _ in tries) == [401] * 3 + [429] * 5
    async with admin.http.post("/api/auth", json={"username": "vera", "password": "rubin"}) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) == 59
    await admin.log_in("admin", "admin")
    frozen(monkeypatch, minute + counts.WINDOW)
    await admin.log_in("vera", "rubin")


def frozen(monkeypatch: pytest.MonkeyPatch, at: float | None = None) -> float:
    """Let counts be made a second after the start of a minute."""
    at = at or (time.time() // counts.WINDOW + 10) * counts.WINDOW + 1.0
    monkeypatch.setattr(counts.time, "time", lambda: at)
    return at


ATTACKER, OWNER = "192.0.2.66", "198.51.100.7"


async def test_an_attacker_elsewhere_does_not_lock_out_the_owner(
    proxied: Settings, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(monkeypatch)
    assert await tried(user, ATTACKER, "vera", "no", times=6) == [401] * 3 + [429] * 3
    assert await tried(user, OWNER, "vera", "rubin") == [200]
    assert await tried(user, ATTACKER, "vera", "rubin") == [429]


async def test_many_attackers_are_held_up_together_but_not_an_owner_who_has_been_there(
    proxied: Settings, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.server.login_attempts_per_account = 5
    frozen(monkeypatch)
    assert await tried(user, OWNER, "vera", "rubin") == [200]
    tries = [await tried(user, f"192.0.2.{number}", "vera", "no") for number in range(8)]
    assert tries == [[401]] * 5 + [[429]] * 3
    assert await tried(user, OWNER, "vera", "rubin") == [200]


async def test_an_address_that_tries_many_accounts_is_held_up_but_not_its_neighbours(
    proxied: Settings, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.server.login_attempts_per_address = 5
    frozen(monkeypatch)
    assert await tried(user, ATTACKER, "vera", "rubin") == [200]
    tries = [await tried(user, ATTACKER, f"user{number}", "no") for number in range(8)]
    assert tries == [[401]] * 5 + [[429]] * 3
    assert await tried(user, ATTACKER, "vera", "rubin") == [200]  # behind the same gateway as the attacker
    assert await tried(user, OWNER, "user1", "no") == [401]


async def test_an_address_that_anybody_can_write_is_not_believed(
    archive: Settings, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.server.login_attempts_per_minute = 3
    frozen(monkeypatch)
    tries = [await tried(user, f"192.0.2.{number}", "vera", "no") for number in range(5)]
    assert tries == [[401]] * 3 + [[429]] * 2


@pytest.fixture
def proxied(settings: Settings) -> Settings:
    """An instance behind a proxy on this machine."""
    settings.server.trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
    settings.server.login_attempts_per_minute = 3
    return settings


async def tried(api: Any, address: str, name: str, password: str, times: int = 1) -> list[int]:
    headers = {"X-Forwarded-For": f"6.6.6.6, {address}, 10.1.2.3"}
    body = {"username": name, "password": password}
    return [(await api("POST", "/api/auth", body, headers=headers))[0] for _ in range(times)]


async def test_logging_in_often_is_no_attack(archive: Settings, nobody: Any) -> None:
    archive.server.login_attempts_per_minute = 3
    for _ in range(8):
        await nobody.log_in("admin", "admin")


async def test_processes_start_together_and_the_configured_password_wins(
    archive: Settings, mongo: MongoClient[dict[str, Any]]
) -> None:
    async def start() -> None:
        async with TestClient(TestServer(create_app(archive))):
            pass

    users = system_database(mongo, archive)[names.USERS]
    await asyncio.gather(*(start() for _ in range(4)))
    first = users.find_one({"_id": "admin"})
    await start()
    assert users.find_one({"_id": "admin"}) == first
    archive.server.admin_password = "another"
    await asyncio.gather(*(start() for _ in range(4)))
    async with TestClient(TestServer(create_app(archive))) as client:
        for password, status in (("admin", 401), ("another", 200)):
            async with client.post("/api/auth", json={"username": "admin", "password": password}) as answer:
                assert answer.status == status
    assert users.count_documents({}) == 1


async def test_passwords_are_not_kept(user: Any, archive: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    stored = system_database(mongo, archive)[names.USERS].find_one({"_id": "vera"})
    assert stored is not None
    assert stored["password"].startswith("$argon2id$")
    assert "rubin" not in str(stored)
