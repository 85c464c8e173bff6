"""``users``: who may use the API, what of it, and who has changed what."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kowalski.cli.console import output, settings

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

    from kowalski.api.accounts import Accounts
    from kowalski.api.models.accounts import UserRecord

Result = TypeVar("Result")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Email = Annotated[str | None, typer.Option(help="Where to reach the user.")]
Role = Annotated[str | None, typer.Option(help="user or admin; an admin may do everything.")]
Permissions = Annotated[
    list[str] | None,
    typer.Option(
        "--permissions",
        metavar="SURVEY:IDS",
        help="Programs of a survey that the user may see, e.g. ZTF:1,2 or ZTF: for none; may be repeated. "
        "What is not named is as server.default_permissions says.",
    ),
]
STDIN = typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
Stdin = Annotated[bool, STDIN]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Users of the API: list, add, edit, remove; audit.", no_args_is_help=True)
    group.command("list")(list_)
    for command in (add, edit, remove, audit):
        group.command()(command)
    app.add_typer(group, name="users")


def list_() -> None:
    """List the users, what they may do, and which programs were allowed to them."""
    from rich.markup import escape
    from rich.table import Table

    async def read(accounts: Accounts) -> list[UserRecord]:
        return [user async for user in accounts.listing()]

    table = Table(
        "user", "role", "permissions", "e-mail", "changed (UTC)", box=None, header_style="bold", pad_edge=False
    )
    for user in asyncio.run(_with_accounts(read)):
        changed = "" if user.last_modified is None else f"{user.last_modified:%Y-%m-%d %H:%M}"
        texts = (user.username, user.role, _shown(user.permissions), user.email or "", changed)
        table.add_row(*map(escape, texts))
    output().print(table)


def add(
    name: Name, email: Email = None, role: Role = None, permissions: Permissions = None, password_stdin: Stdin = False
) -> None:
    """Add a user."""
    given = {"username": name, "email": email, "role": role or "user", "permissions": _permissions(permissions) or {}}
    given["password"] = _password(from_stdin=password_stdin)
    _change("added", given)


def edit(
    name: Name,
    rename: Annotated[str | None, typer.Option(help="A new name.")] = None,
    email: Email = None,
    role: Role = None,
    permissions: Permissions = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: Stdin = False,
) -> None:
    """Change a user; a new password ends the tokens that were made with the old one."""
    wanted = {"username": rename, "email": email, "role": role, "permissions": _permissions(permissions)}
    given = {key: value for key, value in wanted.items() if value is not None}
    if password or password_stdin:
        given["password"] = _password(from_stdin=password_stdin)
    if not given:
        raise typer.BadParameter("say what to change")
    _change("edited", given, name)


def remove(name: Name) -> None:
    """Remove a user, whose tokens end with that."""
    _change("removed", {}, name)


def audit(
    user: Annotated[str | None, typer.Option(help="Only what this user has changed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
) -> None:
    """Show who has changed what: users, filters, skymaps, catalogs and everything else."""
    import json

    from kowalski.archive import audit as entries

    async def show() -> None:
        async with _system() as system:
            async for entry in entries.listing(system, user=user, limit=limit):
                details = json.dumps(dict(entry.details), default=str) if entry.details else ""
                who = f"{entry.user}@{entry.address}" if entry.address else entry.user
                typer.echo(f"{entry.at:%Y-%m-%dT%H:%M:%SZ} {who} {entry.action} {details}".rstrip())

    asyncio.run(show())


def _change(done: str, given: dict[str, Any], name: str | None = None) -> None:
    from pydantic import ValidationError

    from kowalski.api.errors import ApiError, from_validation
    from kowalski.api.models.accounts import NewUser, UserChange

    async def change(accounts: Accounts) -> dict[str, Any]:
        if name is None:
            return await accounts.add(NewUser.model_validate(given))
        if given:
            return await accounts.edit(name, UserChange.model_validate(given))
        await accounts.remove(name)
        return {"user": name}

    try:
        asyncio.run(_with_accounts(change, f"users {done}"))
    except ValidationError as error:
        raise typer.BadParameter(str(from_validation(error)).removeprefix("ValidationError: ")) from error
    except ApiError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{done} user {name or given['username']}")


async def _with_accounts(work: Callable[[Accounts], Awaitable[Result]], action: str | None = None) -> Result:
    """Do something with the users; what has an ``action`` is written to the audit."""
    from kowalski.api.accounts import Accounts
    from kowalski.api.passwords import Passwords
    from kowalski.api.tokens import Tokens
    from kowalski.archive import audit as entries

    current, passwords = settings(), Passwords()
    try:
        async with _system() as system:
            result = await work(Accounts(current.server, system, passwords, Tokens(current.server)))
            if action is not None and isinstance(result, dict):
                who = f"{getpass.getuser()} (command line)"
                await entries.record(system, entries.Entry(who, action, result), current.server.audit_days)
            return result
    finally:
        passwords.close()


@asynccontextmanager
async def _system() -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    from kowalski.archive import client

    current = settings()
    connection = client.connect_async(current)
    try:
        yield client.async_system_database(connection, current)
    finally:
        await connection.close()


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    if not password:
        raise typer.BadParameter("a password must not be empty")
    return password


def _permissions(given: list[str] | None) -> dict[str, list[int]] | None:
    if given is None:
        return None
    found: dict[str, list[int]] = {}
    for text in given:
        survey, colon, programs = text.partition(":")
        try:
            found[survey] = [int(program) for program in programs.split(",") if program.strip()]
        except ValueError as error:
            raise typer.BadParameter(f"{text}: write it like ZTF:1,2") from error
        if not colon:
            raise typer.BadParameter(f"{text}: write it like ZTF:1,2")
    return found


def _shown(permissions: dict[str, list[int]]) -> str:
    return " ".join(f"{survey}:{','.join(map(str, programs))}" for survey, programs in permissions.items())
