"""The whole instance of the system tests, for those that kill parts of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_system = importlib.util.spec_from_file_location(
    "system_conftest", Path(__file__).resolve().parent.parent / "system" / "conftest.py"
)
assert _system is not None
assert _system.loader is not None
_module = importlib.util.module_from_spec(_system)
_system.loader.exec_module(_module)
kowalski, skyportal = _module.kowalski, _module.skyportal
