"""Settings of the API: the server, and what is asked of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kowalski.config.fields import (
    Count,
    Network,
    Number,
    Port,
    Positive,
    Seconds,
    Section,
    Text,
)

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Contact(Section):
    """Who answers questions about this instance; shown in the API's documentation."""

    name: str | None = None
    email: str | None = None


class Server(Section):
    """The HTTP API."""

    name: str = "Kowalski"
    host: Text = "127.0.0.1"
    port: Port = 4000
    processes: Positive = 2
    timeout: Positive = 600
    max_requests: Count = 100_000
    client_max_size: Positive = 16 * 1024 * 1024
    admin_username: Text = "admin"
    admin_password: Annotated[str, Field(min_length=1)] = "admin"
    jwt_secret_key: Annotated[str, Field(min_length=16)] | None = None
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    jwt_exp_delta_seconds: Positive | None = 30 * 24 * 3600
    login_attempts_per_minute: Positive = 20
    login_attempts_per_address: Positive = 100
    login_attempts_per_account: Positive = 100
    requests_per_minute: Positive | None = None
    trusted_proxies: list[Network] = []
    metrics_networks: list[Network] = ["127.0.0.0/8", "::1"]
    cors_origins: list[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]] = []
    audit_days: Positive = 365
    user_cache_seconds: Annotated[float, Number, Field(ge=0, le=1e9, allow_inf_nan=False)] = 5.0
    default_permissions: dict[str, list[Annotated[int, Number, Field(ge=0, le=2**31 - 1)]]] = {}
    contact: Contact = Contact()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        return self.host in LOOPBACK


class StatusPage(Section):
    """The page that shows how the instance does."""

    public: bool = True
    hours: Annotated[int, Number, Field(ge=2, le=168)] = 24
    cache_seconds: Seconds = 10.0
    refresh_seconds: Positive | None = 60


class Ceilings(Section):
    """What one query of users of a role may take, where that differs from the rest."""

    max_time_ms: Positive | None = None
    max_rows: Positive | None = None
    max_bytes: Positive | None = None
    max_table_rows: Positive | None = None


class Queries(Section):
    """Ceilings for what one query of the API may take."""

    max_time_ms: Positive = 300_000
    max_rows: Positive = 1_000_000
    max_bytes: Positive = 2 * 1024**3
    max_table_rows: Positive = 100_000
    roles: dict[Literal["user", "admin"], Ceilings] = {}

    def of(self, role: Literal["user", "admin"]) -> Queries:
        """Give the ceilings that hold for users of a role."""
        own = self.roles.get(role)
        return self if own is None else self.model_copy(update=own.model_dump(exclude_none=True))


class Skymaps(Section):
    """Localizations that users hand in."""

    allowed_urls: list[Annotated[str, Field(pattern=r"^https?://[^/\s?#@]+/[^\s?#]*$")]] = []
    timeout_seconds: Seconds = 30.0
    max_bytes: Positive = 448 * 1024 * 1024
    max_cells: Positive = 12 * 1024**2


class Telescope(Section):
    """Where requests for targets of opportunity go that are made under one name."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")] | None = None
    kind: Literal["queue", "skymap"] = "queue"


class Triggers(Section):
    """Requests for targets of opportunity, which are handed on to observatories."""

    timeout_seconds: Seconds = 10.0
    telescopes: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,50}$")], Telescope] = {}
