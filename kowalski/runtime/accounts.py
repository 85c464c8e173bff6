"""Making MongoDB ready: its replica set, and one account per purpose.

`prepare` may be called at any time and as often as one likes; it changes only what is not yet as it should be.
"""

from __future__ import annotations

import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from kowalski.archive.client import Document, Role, connect
from kowalski.config import Settings
from kowalski.config.secrets import NEXT_FILE
from kowalski.runtime.errors import ServiceError

UNAUTHORIZED, AUTHENTICATION_FAILED, ALREADY_INITIALIZED, NOT_YET_INITIALIZED, ATLAS_ERROR = 13, 18, 23, 94, 8000
REFUSED = (UNAUTHORIZED, AUTHENTICATION_FAILED, ATLAS_ERROR)
PAUSE = 0.1

Roles = list[dict[str, str]]


def prepare(settings: Settings, timeout: float = 60.0) -> None:
    """Wait until MongoDB answers and make what Kowalski needs in it.

    The embedded server gets its replica set and its accounts. On a server that runs elsewhere accounts are made where
    ``database.admin_username`` may do so; otherwise those named in the configuration must exist.

    Parameters
    ----------
    settings
        Names, passwords and address.
    timeout
        Seconds to wait for the server, and again for its replica set.

    Raises
    ------
    ServiceError
        If the server doesn't answer in time or refuses what is needed.
    """
    try:
        if settings.database.is_embedded:
            _initiate(settings, timeout)
            _make_admin(settings)
            make_accounts(settings)
        else:
            _prepare_external(settings, timeout)
    except (InvalidURI, ConfigurationError) as error:
        raise ServiceError(f"database.uri or database.host can't be used: {error}") from error
    except ConnectionFailure as error:
        raise ServiceError(_unreachable(settings, timeout)) from error


def make_accounts(settings: Settings) -> None:
    """Make or correct the accounts of services and of queries, as the admin."""
    database = settings.database
    data, system = database.db, database.system_db
    writer = [{"role": role, "db": name} for name in (data, system) for role in ("readWrite", "dbAdmin")]
    reader = [{"role": "read", "db": data}]
    with connect(settings, Role.ADMIN) as client:
        _put_user(client, database.username, database.password, writer)
        _put_user(client, database.query_username, database.query_password, reader)


def drop_accounts(settings: Settings) -> None:
    """Remove the accounts of services and of queries, as the admin."""
    with connect(settings, Role.ADMIN) as client:
        for name in (settings.database.username, settings.database.query_username):
            if client.admin.command("usersInfo", name)["users"]:
                client.admin.command("dropUser", name)


def _put_user(client: MongoClient[Document], name: str, password: str | None, roles: Roles) -> None:
    known = client.admin.command("usersInfo", name)["users"]
    client.admin.command("updateUser" if known else "createUser", name, pwd=password, roles=roles)


def _unreachable(settings: Settings, timeout: float) -> str:
    if settings.database.is_embedded:
        log = settings.path.run / "logs" / "mongod.log"
        return (
            f"MongoDB does not answer at 127.0.0.1:{settings.database.port} (database.port) "
            f"within {timeout:g} s; its log is {log}"
        )
    return (
        f"MongoDB does not answer at {_address(settings)} within {timeout:g} s; check database.uri or database.host, "
        "or leave both out to have a server started here"
    )


def _address(settings: Settings) -> str:
    """Where the server is, without the credentials that ``database.uri`` may carry."""
    database = settings.database
    if database.uri is None:
        return f"{database.host}:{database.port}"
    scheme, _, rest = database.uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


# The embedded server: a replica set of one


def _initiate(settings: Settings, timeout: float) -> None:
    """Make the server the primary of its own replica set, under the address it has now."""
    end = time.monotonic() + timeout
    with _local(settings, timeout) as client:
        while not (hello := client.admin.command("hello"))["isWritablePrimary"]:
            if time.monotonic() > end:
                raise ServerSelectionTimeoutError("the replica set has no primary")
            if "setName" not in hello:
                _settle(client, settings)
            time.sleep(PAUSE)


def _settle(client: MongoClient[Document], settings: Settings) -> None:
    """Found the set, or tell it its new address after a change of ``database.port``.

    A server whose address isn't in its stored configuration belongs to no set and serves nobody.
    """
    address = f"127.0.0.1:{settings.database.port}"
    with _as_admin(settings) as admin:
        try:
            config = admin.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code == NOT_YET_INITIALIZED:  # there is an admin, so there is a set: it is being loaded
                return
            _start_set(client, settings, address)
            return
        if config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            admin.admin.command("replSetReconfig", config, force=True)


def _local(settings: Settings, timeout: float = 10.0, **account: Any) -> MongoClient[Document]:
    """Connect to the embedded server itself, whatever the state of its replica set."""
    return MongoClient(
        "127.0.0.1",
        settings.database.port,
        directConnection=True,
        serverSelectionTimeoutMS=int(timeout * 1000),
        **account,
    )


def _as_admin(settings: Settings) -> MongoClient[Document]:
    database = settings.database
    return _local(settings, username=database.admin_username, password=database.admin_password)


def _start_set(client: MongoClient[Document], settings: Settings, address: str) -> None:
    """Found the set; the server lets a local client do so as long as there are no accounts."""
    name = settings.database.replica_set or "rs0"
    try:
        client.admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": address}]})
    except OperationFailure as error:
        if error.code == UNAUTHORIZED:
            raise _wrong_password(settings) from error
        if error.code != ALREADY_INITIALIZED:
            raise ServiceError(f"MongoDB refuses to start its replica set: {_reason(error)}") from error


def _make_admin(settings: Settings) -> None:
    """Make the first account; the server allows that to a local client as long as there is none."""
    if _can_log_in(settings, Role.ADMIN):
        return
    database = settings.database
    roles = [{"role": "root", "db": "admin"}]
    with _local(settings) as client:
        try:
            client.admin.command("createUser", database.admin_username, pwd=database.admin_password, roles=roles)
        except OperationFailure as error:
            raise _wrong_password(settings) from error


def _wrong_password(settings: Settings) -> ServiceError:
    if (settings.path.run / NEXT_FILE).exists():
        return ServiceError("a change of secrets was interrupted; finish it with ./kowalski.py secrets rotate")
    return ServiceError(
        f"MongoDB in {settings.path.run / 'mongod'} knows another password than database.admin_password "
        f"for {settings.database.admin_username}; put back the secrets.json it was made with, or remove that folder"
    )


# A server that runs elsewhere


def _prepare_external(settings: Settings, timeout: float) -> None:
    if _can_log_in(settings, Role.ADMIN, timeout) and _may_make_accounts(settings):
        return
    keys = {Role.WRITER: ("database.username", settings.database.username)}
    keys[Role.READER] = ("database.query_username", settings.database.query_username)
    for role, (key, name) in keys.items():
        if not _can_log_in(settings, role, timeout):
            raise ServiceError(
                f"MongoDB at {_address(settings)} refuses {key} = {name!r}; make the account and give its password, "
                "or set database.admin_username and database.admin_password to one that may make accounts"
            )


def _can_log_in(settings: Settings, role: Role, timeout: float = 10.0) -> bool:
    with connect(settings, role, serverSelectionTimeoutMS=int(timeout * 1000)) as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            if error.code in REFUSED:
                return False
            raise
    return True


def _may_make_accounts(settings: Settings) -> bool:
    """Make the accounts if the server lets us: Atlas never does, whoever asks."""
    if settings.database.uri is not None and "@" in settings.database.uri:
        return True  # one account for everything, made by whoever wrote it there
    try:
        make_accounts(settings)
    except OperationFailure as error:
        if error.code in REFUSED:
            return False
        raise ServiceError(f"MongoDB at {_address(settings)} can't make accounts: {_reason(error)}") from error
    return True


def _reason(error: PyMongoError) -> str:
    return " ".join(str(error).split())
