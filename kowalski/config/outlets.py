"""Settings of the courier: where what passes a filter goes."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from kowalski.config.fields import (
    Port,
    Positive,
    Seconds,
    Section,
    Text,
)

OutletName = Literal["skyportal", "kafka"]


class OutletSettings(Section):
    """How the courier works an outbox off."""

    enabled: bool = False
    lanes: Positive = 8
    backoff_seconds: Seconds = 1.0
    backoff_max_seconds: Seconds = 60.0
    keep_days: Positive = 30

    @property
    def longest_wait(self) -> float:
        """So long a document waits at most for its next attempt, seconds, unless the other side asks for more."""
        return 2.0 * self.backoff_max_seconds


class Distribution(OutletSettings):
    """What passes a filter, onto Kafka topics for others."""

    topic: Text = "kowalski_{survey}_{filter_id}"
    format: Literal["avro", "json"] = "avro"
    timeout_seconds: Seconds = 15.0

    @field_validator("topic")
    @classmethod
    def _is_a_topic(cls, template: str) -> str:
        try:
            name = template.format(survey="ztf", group_id=1, filter_id=2)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may name {survey}, {group_id} and {filter_id}, and nothing else in braces") from error
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name == template:
            raise ValueError("must name {filter_id}, and else have letters, digits, dots, dashes and underscores")
        return template


class SkyPortal(OutletSettings):
    """Where what passes a filter goes."""

    protocol: Literal["http", "https"] = "http"
    host: Text = "localhost"
    port: Port = 5000
    token: str | None = None
    timeout_seconds: Seconds = 15.0
    settle_seconds: Seconds = 30.0
    reconcile_seconds: Seconds = 600.0

    @property
    def longest_wait(self) -> float:
        """So long a document waits at most: what a lost answer takes, too."""
        return max(super().longest_wait, 3.0 * self.settle_seconds)

    @property
    def base_url(self) -> str:
        """Root of SkyPortal's API."""
        return f"{self.protocol}://{self.host}:{self.port}"
