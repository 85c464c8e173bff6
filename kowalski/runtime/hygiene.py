"""Whether an instance's secrets are kept as they should be, and whether MongoDB's accounts may do what they should."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pymongo.errors import ConnectionFailure, OperationFailure

from kowalski.archive.client import Role, connect
from kowalski.config import Settings
from kowalski.config.secrets import FILE, NEXT_FILE
from kowalski.runtime.lifecycle import DEFAULT_PASSWORD

SHORTEST = 12
"""Characters of a password that somebody has thought out."""
UNAUTHORIZED = 13


def problems(settings: Settings, configuration: Path | None) -> Iterator[str]:
    """Look for what is wrong with the secrets of an instance.

    Parameters
    ----------
    configuration
        The operator's file, if there is one.

    Yields
    ------
    str
        A sentence for each problem.
    """
    yield from _files(settings, configuration)
    yield from _words(settings)
    yield from _accounts(settings)


def _files(settings: Settings, configuration: Path | None) -> Iterator[str]:
    secrets = settings.path.run / FILE
    if not secrets.is_file():
        yield f"there is no {secrets} yet; secrets make writes it"
    if (settings.path.run / NEXT_FILE).exists():
        yield "a change of secrets was interrupted; secrets rotate finishes it"
    for path in (secrets, configuration):
        if path is None or not path.is_file():
            continue
        found = path.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and (path == secrets or _holds_secrets(settings)):
            yield f"others can read {path}; chmod 600 it"
        if found.st_uid != os.getuid() and path == secrets:
            yield f"{path} belongs to another user"


def _holds_secrets(settings: Settings) -> bool:
    """Whether the operator has set secrets in the configuration: ours are long."""
    own = (settings.skyportal.token, settings.database.tls.certificate_password)
    names = ("sasl.password", "ssl.key.password")
    admin = settings.server.admin_password != DEFAULT_PASSWORD
    return admin or any(own) or any(name in settings.kafka.client for name in names)


def _words(settings: Settings) -> Iterator[str]:
    if settings.server.admin_password == DEFAULT_PASSWORD:
        yield "the API's admin has the default password; set server.admin_password"
    elif len(settings.server.admin_password) < SHORTEST:
        yield f"server.admin_password has fewer than {SHORTEST} characters"
    if len(settings.server.jwt_secret_key or "") < 32:
        yield "server.jwt_secret_key has fewer than 32 characters; leave it out, and one is made at random"


def _accounts(settings: Settings) -> Iterator[str]:
    database = settings.database
    for role, name in ((Role.WRITER, database.username), (Role.READER, database.query_username)):
        with connect(settings, role, serverSelectionTimeoutMS=3000) as client:
            try:
                client[database.db].command("ping")
                client[database.db].list_collection_names()
                if role is Role.READER:
                    client[database.system_db].list_collection_names()
                    yield f"the account {name} of users' queries can read {database.system_db}; see docs/operator.md"
            except OperationFailure as error:
                if not (role is Role.READER and error.code == UNAUTHORIZED):
                    yield f"MongoDB does not let in {name}: {error.details and error.details.get('errmsg')}"
            except ConnectionFailure:
                yield "MongoDB does not answer, so its accounts were not looked at"
                return
