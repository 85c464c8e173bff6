"""New secrets for an instance: MongoDB's passwords, and the key that signs the API's tokens.

The new ones are written down first, then put into force in MongoDB, the admin's last, and then they take the place of
the old ones. So whenever this is interrupted, either the old ones or those written down open every door, and the next
`rotate` goes on with the latter. Services that run keep their connections until they are restarted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pymongo.errors import ConnectionFailure, OperationFailure

from kowalski.archive.client import Role, connect
from kowalski.config import Settings
from kowalski.config.secrets import FILE, NEXT_FILE, Secrets
from kowalski.runtime.accounts import REFUSED, make_accounts
from kowalski.runtime.errors import ServiceError

PASSWORDS = ("password", "query_password", "admin_password")
TOKEN_KEY = "jwt_secret_key"
PATIENCE_MS = 3000


def rotate(settings: Settings, *, passwords: bool = True, tokens: bool = True) -> list[str]:
    """Put new secrets into force; those that the operator has set in the configuration stay.

    Returns
    -------
    list of str
        The settings that have a new value: ``database.password``, ``server.jwt_secret_key`` …

    Raises
    ------
    ServiceError
        If there are no secrets yet, or MongoDB is away or lets nobody change passwords.
    """
    run = settings.path.run
    if not (run / FILE).is_file():
        raise ServiceError(f"there are no secrets in {run} yet; ./kowalski.py up makes them")
    old = Secrets.read(run)
    new = _next(run, old, passwords=passwords, tokens=tokens)
    ours = [name for name in PASSWORDS if getattr(settings.database, name) == getattr(old, name)]
    changed = [name for name in ours if getattr(old, name) != getattr(new, name)]
    if changed:
        _put_into_force(settings, old, new, ours)
    told = [f"database.{name}" for name in changed]
    if settings.server.jwt_secret_key == old.jwt_secret_key != new.jwt_secret_key:
        told.append(f"server.{TOKEN_KEY}")
    (run / NEXT_FILE).replace(run / FILE)
    return told


def _next(run: Path, old: Secrets, *, passwords: bool, tokens: bool) -> Secrets:
    """Invent new secrets and write them down, or find those of an attempt that was interrupted."""
    path = run / NEXT_FILE
    if not path.exists():
        fresh = Secrets()
        wanted = (*PASSWORDS, *([TOKEN_KEY] if tokens else [])) if passwords else (TOKEN_KEY,)
        replace(old, **{name: getattr(fresh, name) for name in wanted}).write(path)
    return Secrets.read(run, NEXT_FILE)


def _put_into_force(settings: Settings, old: Secrets, new: Secrets, ours: list[str]) -> None:
    """Change MongoDB's passwords, as the admin under the old password or, after an interruption, the new one."""
    changed = settings.model_copy(deep=True)
    for name in ours:
        setattr(changed.database, name, getattr(new, name))
    admins = [settings, changed] if "admin_password" in ours else [settings]
    acting = next((each for each in admins if _lets_in(each)), None)
    if acting is None:
        raise ServiceError(
            f"MongoDB does not let in database.admin_username = {settings.database.admin_username!r}, which changes "
            "passwords; set it and database.admin_password, or change the passwords yourself"
        )
    working = changed.model_copy(deep=True)
    working.database.admin_password = acting.database.admin_password
    make_accounts(working)
    if "admin_password" in ours:
        with connect(working, Role.ADMIN) as client:
            name = settings.database.admin_username
            client.admin.command("updateUser", name, pwd=new.admin_password)


def _lets_in(settings: Settings) -> bool:
    with connect(settings, Role.ADMIN, serverSelectionTimeoutMS=PATIENCE_MS) as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            if error.code in REFUSED:
                return False
            raise
        except ConnectionFailure as error:
            raise ServiceError("MongoDB does not answer, and passwords are changed there; is Kowalski up?") from error
    return True
