"""``users list``, ``add``, ``edit``, ``remove`` and ``audit`` on a real MongoDB; the API lets in whom they made."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import client, names
from kowalski.cli import users
from kowalski.config import Settings
from kowalski.testing import services

Run = Callable[..., Result]


@pytest.fixture
def run(mongo: MongoClient[dict[str, Any]], settings: Settings) -> Run:
    """Run the command as the operator of this instance, on a wide terminal."""
    app = typer.Typer()
    users.register(app)
    app.command("other")(lambda: None)
    environment = services.environment(settings) | {"COLUMNS": "200"}
    return lambda *arguments, say="": CliRunner().invoke(app, ["users", *arguments], input=say, env=environment)


@pytest.fixture
def stored(mongo: MongoClient[dict[str, Any]], settings: Settings) -> Any:
    return client.system_database(mongo, settings)[names.USERS]


def test_a_life(run: Run, stored: Any) -> None:
    added = run(
        "add", "vera", "--permissions", "ztf:1,2", "--email", "v@example.org", "--password-stdin", say="rubin\n"
    )
    assert (added.exit_code, added.stdout) == (0, "added user vera\n"), added.output
    first = stored.find_one({"_id": "vera"})
    assert (first["permissions"], first["role"], first["email"]) == ({"ZTF": [1, 2]}, "user", "v@example.org")
    assert first["password"].startswith("$argon2id$")
    assert run("edit", "vera", "--role", "admin", "--permissions", "ZTF:").exit_code == 0
    second = stored.find_one({"_id": "vera"})
    assert (second["permissions"], second["role"], second["stamp"]) == ({"ZTF": []}, "admin", first["stamp"])
    assert run("edit", "vera", "--password", say="cooper\ncooper\n").exit_code == 0
    assert stored.find_one({"_id": "vera"})["stamp"] != first["stamp"]
    assert run("edit", "vera", "--rename", "vera.rubin").exit_code == 0
    row = next(line for line in run("list").stdout.splitlines() if line.startswith("vera"))
    assert row.split()[:4] == ["vera.rubin", "admin", "ZTF:", "v@example.org"]
    assert run("remove", "vera.rubin").exit_code == 0
    assert stored.find_one() is None
    history = run("audit").stdout
    assert [line.split()[4:6] for line in reversed(history.splitlines())] == [
        ["users", done] for done in ("added", "edited", "edited", "edited", "removed")
    ]
    assert f" {getpass.getuser()} (command line) " in history
    assert "cooper" not in history


def test_refused(run: Run, stored: Any) -> None:
    assert run("add", "vera", "--password-stdin", say="rubin\n").exit_code == 0
    for arguments, reason in (
        (("add", "vera", "--password-stdin"), "user vera already exists"),
        (("add", "henrietta", "--role", "king", "--password-stdin"), "role"),
        (("add", "henrietta", "--permissions", "Nowhere:1", "--password-stdin"), "no survey Nowhere"),
        (("add", "henrietta", "--permissions", "ZTF=1", "--password-stdin"), "write it like ZTF:1,2"),
        (("edit", "vera"), "say what to change"),
        (("edit", "nobody", "--role", "admin"), "user nobody not found"),
        (("edit", "admin", "--role", "user"), "the superuser is always an admin"),
        (("remove", "admin"), "cannot remove the superuser!"),
        (("remove", "nobody"), "user nobody not found"),
    ):
        done = run(*arguments, say="another\n")
        assert done.exit_code == 2, arguments
        assert reason in " ".join(done.stderr.split()), arguments
    assert run("add", "henrietta", "--password-stdin", say="\n").exit_code == 2
    assert [user["_id"] for user in stored.find()] == ["vera"]
