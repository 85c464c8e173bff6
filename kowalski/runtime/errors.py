"""What can go wrong with a service, as one sentence for the operator."""

from __future__ import annotations


class ServiceError(Exception):
    """A service can't be started or reached; the text says which, why, and what would help."""
