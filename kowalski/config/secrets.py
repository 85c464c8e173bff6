"""Random secrets of an instance: made once, kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kowalski.config.settings import Settings

FILE = "secrets.json"
NEXT_FILE = "secrets.next.json"
"""Secrets that are being put into force: see `kowalski.runtime.rotation`."""


def _random() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Secrets:
    """MongoDB's passwords, its key file's content and the key that signs the API's tokens."""

    admin_password: str = field(default_factory=_random)
    password: str = field(default_factory=_random)
    query_password: str = field(default_factory=_random)
    jwt_secret_key: str = field(default_factory=_random)
    replica_key: str = field(default_factory=lambda: secrets.token_hex(32))

    @classmethod
    def read(cls, run: Path, name: str = FILE) -> Secrets:
        """Read the secrets of run folder ``run``; where there are none yet, invent some without writing them."""
        path = run / name
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()

    @classmethod
    def ensure(cls, run: Path) -> Secrets:
        """Read the secrets of run folder ``run``, making them (mode 0600) on first use."""
        if not (run / FILE).is_file():
            cls().write(run / FILE)
        return cls.read(run)

    def write(self, path: Path) -> None:
        """Write them to a file that is not there yet, readable by its owner only, and make sure that it stays."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    def fill(self, settings: Settings) -> None:
        """Put a secret wherever the operator has set none."""
        database, server = settings.database, settings.server
        database.admin_password = database.admin_password or self.admin_password
        database.password = database.password or self.password
        database.query_password = database.query_password or self.query_password
        server.jwt_secret_key = server.jwt_secret_key or self.jwt_secret_key
