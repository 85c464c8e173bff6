"""Every change is written down: who, what, from where; and nothing that is none."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from kowalski.archive import names
from kowalski.archive.client import system_database
from kowalski.config import Settings


async def test_changes_are_written_down(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any, user: Any
) -> None:
    entries = system_database(mongo, archive)[names.AUDIT]
    entries.delete_many({})
    for method, path, body in (
        ("PUT", "/api/users/vera", {"password": "cooper", "permissions": {"ZTF": [2]}}),
        ("PUT", "/api/users/nobody", {"password": "cooper"}),
        ("GET", "/api/users", None),
        ("DELETE", "/api/users/vera", None),
    ):
        await admin(method, path, body, headers={"X-Request-ID": f"{method}-1"})
    assert (await admin.query("drop", {"catalog": "Gaia_EDR3"}))[0] == 200
    assert (await admin.query("count_documents", {"catalog": "ZTF_alerts", "filter": {}}))[0] == 200
    found = list(entries.find(sort=[("_id", 1)]))
    assert [(entry["user"], entry["action"], entry["details"]) for entry in found] == [
        ("admin", "PUT /api/users/vera", {"user": "vera", "permissions": {"ZTF": [2]}, "password": True}),
        ("admin", "DELETE /api/users/vera", {}),
        ("admin", "POST /api/queries", {"dropped": "Gaia_EDR3"}),
    ]
    assert (found[0]["address"], found[0]["request"]) == ("127.0.0.1", "PUT-1")
    assert (found[0]["expires"] - found[0]["at"]).days == archive.server.audit_days
    assert "cooper" not in str(found)


async def test_a_refused_change_is_none(
    archive: Settings, mongo: MongoClient[dict[str, Any]], admin: Any, user: Any
) -> None:
    entries = system_database(mongo, archive)[names.AUDIT]
    before = entries.count_documents({})
    assert (await user("DELETE", "/api/users/vera"))[0] == 403
    assert (await user.query("drop", {"catalog": "Gaia_EDR3"}))[0] == 403
    assert (await admin("DELETE", "/api/users/admin"))[0] == 400
    assert entries.count_documents({}) == before
