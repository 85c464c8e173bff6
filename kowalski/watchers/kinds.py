"""Which watcher goes with which settings."""

from __future__ import annotations

from typing import Any

from kowalski.config import ConfigError
from kowalski.config.watchers import Files, OperationsLog, Report, Tns, Watcher, Watchers
from kowalski.watchers import base
from kowalski.watchers.files import FilesWatcher
from kowalski.watchers.operations_log import OperationsLogWatcher
from kowalski.watchers.reporting import ReportWatcher
from kowalski.watchers.tns import TnsWatcher

KINDS: dict[type[Watcher], type[Any]] = {
    Tns: TnsWatcher,
    OperationsLog: OperationsLogWatcher,
    Files: FilesWatcher,
    Report: ReportWatcher,
}


def settings_of(watchers: Watchers, name: str) -> tuple[str, Watcher]:
    """Find what is set of a watcher; dashes in its name do as well.

    Raises
    ------
    ConfigError
        If there is none of that name, or it lacks something.
    """
    known = watchers.all
    found = name.replace("-", "_")
    if found not in known:
        raise ConfigError(f"there is no watcher {name}; there are: {', '.join(known)}")
    if known[found].missing:
        keys = ", ".join(f"watchers.{found}.{key}" for key in known[found].missing)
        raise ConfigError(f"{found} is not configured: set {keys}")
    return found, known[found]


def build(context: base.Context[Any]) -> base.Watcher:
    """Make the watcher that a context is for."""
    kind = next(made for declared, made in KINDS.items() if isinstance(context.own, declared))
    watcher: base.Watcher = kind(context)
    return watcher
