"""How services write their logs: a line per event on standard error, which the supervisor puts into ``<run>/logs``."""

from __future__ import annotations

import logging
import time

from kowalski.config import Settings

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Time (UTC, ISO 8601), how bad, who, what."""
TIME = "%Y-%m-%dT%H:%M:%SZ"


def configure(settings: Settings) -> None:
    """Set up logging for this process as ``logging.level`` says; what libraries tell below warnings is left out."""
    formatter = logging.Formatter(FORMAT, TIME)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kowalski").setLevel(settings.logging.level.upper())
