"""Settings of the watchers, which look elsewhere for what the archive should have, and of the performance report."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from kowalski.config.fields import Count, Positive, Seconds, Section, Text

Url = Annotated[str, Field(pattern=r"^https?://[^/\s?#@]+(/[^\s?#]*)?$")]
Night = Annotated[str, Field(pattern=r"^[0-9]{8}$")]


class Watcher(Section):
    """What every watcher has: whether it is wanted, where it looks, how often, and how fast it may ask."""

    NEEDS: ClassVar[tuple[str, ...]] = ("url",)
    """Settings without which it can't work."""

    enabled: bool = True
    url: Url | None = None
    every_seconds: Seconds = 300.0
    requests_per_minute: Positive | None = 60

    @property
    def missing(self) -> list[str]:
        """Names of the settings that it needs and that have no value."""
        return [name for name in self.NEEDS if not getattr(self, name)]


class Tns(Watcher):
    """The Transient Name Server: its daily tables, and its API for what is new."""

    NEEDS = ("url", "bot_id", "bot_name", "api_key")

    url: Url | None = "https://www.wis-tns.org"
    every_seconds: Seconds = 240.0
    requests_per_minute: Positive | None = 30
    bot_id: Positive | None = None
    bot_name: Text | None = None
    api_key: Text | None = None
    hours: Positive = 3
    tables: bool = True
    collection: Text = "TNS"


class OperationsLog(Watcher):
    """A table of all exposures that a telescope has made, to which lines are added."""

    username: Text | None = None
    password: str | None = None
    verify_tls: bool = True
    collection: Text


class ZtfOps(OperationsLog):
    """The exposures of ZTF."""

    collection: Text = "ZTF_ops"


class Files(Watcher):
    """A collection of files on a web server, that is copied into a folder."""

    enabled: bool = False
    every_seconds: Seconds = 86400.0
    username: Text | None = None
    password: str | None = None
    verify_tls: bool = True
    pattern: Text
    folders: Text | None = None
    checksums: Text | None = None
    check: Literal["size", "gzip", "fits", "hdf5"] = "size"
    set_size: Count = 0
    parallel: Annotated[int, Field(ge=1, le=16)] = 4
    first_night: Night | None = None
    last_night: Night | None = None
    folder: Text
    """Below ``path.data``."""

    @field_validator("pattern", "folders", mode="after")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return value

    @field_validator("first_night", "last_night", mode="before")
    @classmethod
    def _is_a_night(cls, value: Any) -> Any:
        if value is None:
            return None
        try:
            text = str(value)
            date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError as error:
            raise ValueError("must be a date, as YYYYMMDD") from error
        return text


class ZtfAlerts(Files):
    """Public alerts of ZTF, an archive per night."""

    url: Url | None = "https://ztf.uw.edu/alerts/public"
    pattern: Text = r"ztf_public_(?P<date>[0-9]{8})\.tar\.gz"
    checksums: Text | None = "MD5SUMS"
    check: Literal["size", "gzip", "fits", "hdf5"] = "gzip"
    folder: Text = "ztf_alerts"


class ZtfMatchfiles(Files):
    """Matchfiles of ZTF: three per field and readout channel, one for each band."""

    NEEDS = ("url", "username", "password")

    pattern: Text = r"ztf_(?P<field>[0-9]{6})_z[gri]_c(?P<ccd>[0-9]{2})_q(?P<quad>[1-4])_match\.pytable"
    folders: Text | None = r"rc[0-9]{2}|fr[0-9]{6}-[0-9]{6}"
    checksums: Text | None = None
    check: Literal["size", "gzip", "fits", "hdf5"] = "hdf5"
    set_size: Count = 3
    folder: Text = "ztf_matchfiles"


class Ps1Psc(Files):
    """The point source catalog of PanSTARRS1."""

    url: Url | None = "https://archive.stsci.edu/hlsps/ps1-psc"
    pattern: Text = r"hlsp_ps1-psc_ps1_gpc.*\.fits"
    check: Literal["size", "gzip", "fits", "hdf5"] = "fits"
    folder: Text = "catalogs/ps1_psc"


class Report(Watcher):
    """The performance report of each day (UTC), once it is over."""

    NEEDS = ()

    enabled: bool = False
    url: Url | None = "https://slack.com/api"
    every_seconds: Seconds = 3600.0
    format: Literal["html", "pdf"] = "html"
    folder: Text = "reports"
    """Below ``path.data``."""
    slack_token: Text | None = None
    slack_channel: Text | None = None
    slack_webhook: Url | None = None

    @model_validator(mode="after")
    def _slack_is_whole(self) -> Report:
        if (self.slack_token is None) != (self.slack_channel is None):
            raise ValueError("slack_token and slack_channel need each other")
        return self

    @property
    def to_slack(self) -> bool:
        """Whether reports go to Slack."""
        return self.slack_webhook is not None or self.slack_token is not None


class Watchers(Section):
    """Watchers, each a service of its own, and how all of them behave towards the servers they ask."""

    timeout_seconds: Seconds = 60.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 5
    backoff_seconds: Seconds = 2.0
    backoff_max_seconds: Seconds = 300.0
    keep_free_bytes: Count = 5_000_000_000
    tns: Tns = Tns()
    ztf_ops: ZtfOps = ZtfOps()
    ztf_alerts: ZtfAlerts = ZtfAlerts()
    ztf_matchfiles: ZtfMatchfiles = ZtfMatchfiles()
    ps1_psc: Ps1Psc = Ps1Psc()
    report: Report = Report()

    @property
    def all(self) -> dict[str, Watcher]:
        """Every watcher's settings, by name."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: own for name, own in named.items() if isinstance(own, Watcher)}

    @property
    def running(self) -> dict[str, Watcher]:
        """Those that are wanted and have what they need."""
        return {name: own for name, own in self.all.items() if own.enabled and not own.missing}

    @property
    def not_configured(self) -> dict[str, str]:
        """The others: name -> what to set."""
        found = {}
        for name, own in self.all.items():
            keys = ([] if own.enabled else ["enabled: true"]) + own.missing
            if keys:
                found[name] = ", ".join(f"watchers.{name}.{key}" for key in keys)
        return found
