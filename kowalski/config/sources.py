"""Where settings come from: YAML files and the environment, laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kowalski.config.errors import ConfigError

PREFIX = "KOWALSKI_"

NO_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""What PyYAML raises on bad input: the last four for tagged scalars (``!!timestamp x``), dates and deep nesting."""

REMOVABLE = (("database", "xmatch", "*", "*"), ("database", "indexes", "*"), ("ml", "*", "models", "*"))
"""What null takes away; anywhere else null over a section leaves that section as it is."""

LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same in C, ten times faster, where PyYAML was built with it."""

Tree = dict[str, Any]


def read(path: Path) -> Tree:
    """Read a YAML file of settings; one that has everything under ``kowalski:`` is unwrapped.

    Raises
    ------
    ConfigError
        If it can't be read or holds no sections.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except NO_YAML as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections such as `server:`, not a {type(content).__name__}")
    if len(content) == 1 and "kowalski" in content:
        content = content["kowalski"] or {}
    return _checked(content, path)


def _checked(content: Any, path: Path) -> Tree:
    """Make sure of what the merge relies on: mappings with names as keys, none of which holds itself."""
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections such as `server:`, not a {type(content).__name__}")
    try:
        return {str(key): _named(value) for key, value in content.items()}
    except RecursionError as error:
        raise ConfigError(f"{path} refers to itself or is nested too deeply") from error


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _named(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_named(below) for below in value]
    return value


def merge(base: Tree, overlay: Mapping[str, Any], path: tuple[str, ...] = ()) -> Tree:
    """Lay ``overlay`` over ``base``: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        here = (*path, key)
        below = merged.get(key)
        if value is None and any(_fits(here, pattern) for pattern in REMOVABLE):
            merged.pop(key, None)
        elif value is None and isinstance(below, dict):
            continue  # a heading with nothing under it
        elif isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, dict) else {}, value, here)
        else:
            merged[key] = value
    return merged


def _fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(path) == len(pattern) and all(want in ("*", part) for part, want in zip(path, pattern, strict=True))


def from_environment(environ: Mapping[str, str], known: Mapping[str, Any]) -> Tree:
    """Turn ``KOWALSKI_A__B=value`` variables into nested settings.

    Parameters
    ----------
    environ
        The environment.
    known
        Settings so far: names match whatever their case, as variables are written in capitals.

    Raises
    ------
    ConfigError
        If a variable contradicts another one.
    """
    found: Tree = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        target: Tree = found
        level = known
        *parents, leaf = name.removeprefix(PREFIX).split("__")
        for part in parents:
            key = _same_key(part, level)
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{name} goes deeper than a variable that already gives {key} a value")
            below = level.get(key)
            level = below if isinstance(below, Mapping) else {}
        key = _same_key(leaf, level)
        target[key] = _value(text, level.get(key))
    switch = environ.get("USE_TENSORFLOW")
    if switch is not None:
        ml = found.setdefault("ml", {})
        if isinstance(ml, dict):
            ml.setdefault("use_tensorflow", switch.strip().lower() in {"1", "t", "true", "y", "yes", "on"})
    return found


def _same_key(part: str, level: Mapping[str, Any]) -> str:
    return next((key for key in level if key.lower() == part.lower()), part.lower())


def _value(text: str, default: Any) -> Any:
    """Read a variable's text: numbers and switches are left to the settings' types, lists and mappings are YAML."""
    if text.lower() in {"null", "none", "~", ""}:
        return None
    if text[0] not in "[{" or isinstance(default, str):
        return text
    try:
        return _named(yaml.load(text, Loader=LOADER))
    except NO_YAML:
        return text  # so it is text after all; the settings' types have the last word
