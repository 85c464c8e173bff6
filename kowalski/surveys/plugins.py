"""Surveys that live elsewhere: the settings name their modules, and from then on they are like all others."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from kowalski.surveys import SURVEYS
from kowalski.surveys.base import Survey

DECLARED = ("name", "topics", "topic", "histories", "instrument", "bands", "streams")
"""What a survey must declare itself."""
FAULTS = (ImportError, SyntaxError, OSError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""What importing a module with a mistake raises."""


class PluginError(Exception):
    """A module can't be taken as a survey; the text says why."""


def load(module: str, folder: Path) -> list[Survey]:
    """Import a module and take in the surveys that it declares; one that is imported already stays as it is.

    Parameters
    ----------
    module
        A file (``plugins/argus.py``) or the name of a module on Python's path (``argus.survey``).
    folder
        What relative names of files start from.

    Raises
    ------
    PluginError
        If it can't be imported, declares no survey, or one that is incomplete or has the name of another.
    """
    try:
        found = _file(folder / module) if module.endswith(".py") else importlib.import_module(module)
    except FAULTS as error:
        raise PluginError(f"{module} can't be imported: {type(error).__name__}: {error}") from error
    declared = [
        value
        for value in vars(found).values()
        if isinstance(value, type) and issubclass(value, Survey) and value.__module__ == found.__name__
    ]
    if not declared:
        raise PluginError(f"{module} declares no survey: no subclass of kowalski.surveys.base.Survey")
    return [_taken_in(kind, module) for kind in declared]


def _file(path: Path) -> ModuleType:
    """Import a file under a name that is the same in every process; its survey may say ``simulator = __name__``."""
    path = path.resolve(strict=True)
    name = f"kowalski_plugin_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _taken_in(kind: type[Survey], module: str) -> Survey:
    missing = [name for name in DECLARED if not hasattr(kind, name)]
    if missing:
        raise PluginError(f"{module}: the survey {kind.__name__} does not declare {', '.join(missing)}")
    known = SURVEYS.get(kind.name)
    if known is not None and type(known) is not kind:
        raise PluginError(f"{module}: there is a survey {kind.name} already")
    return SURVEYS.setdefault(kind.name, known or kind())
