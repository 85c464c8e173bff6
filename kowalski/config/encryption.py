"""Settings of encrypted connections."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from kowalski.config.fields import Section


class Tls(Section):
    """TLS to a server that runs elsewhere; files are PEM."""

    enabled: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    certificate_password: str | None = None

    @model_validator(mode="after")
    def _files_are_for_something(self) -> Tls:
        if not self.enabled and (self.ca_file or self.certificate_file):
            raise ValueError("names files, but enabled is false")
        return self
