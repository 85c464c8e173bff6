"""Settings: the only module that reads YAML files and the environment.

Defaults come from ``config.defaults.yaml``, then ``config.yaml`` (or the file of ``--config`` / ``KOWALSKI_CONFIG``) is
laid over them, then variables such as ``KOWALSKI_SERVER__PORT=4001``. Whatever is wrong becomes one `ConfigError`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from kowalski.config.legacy import translate
from kowalski.config.secrets import Secrets
from kowalski.config.settings import Settings

__all__ = ["PROJECT", "ConfigError", "Loaded", "Settings", "load"]

PROJECT = Path(__file__).resolve().parents[2]
PREFIX = "KOWALSKI_"


class ConfigError(Exception):
    """A setting, or the file that holds it, can't be used; the text is one sentence for the operator."""


class Loaded(NamedTuple):
    """What `load` found: the settings, and sentences about settings that have lost their meaning."""

    settings: Settings
    warnings: list[str]


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read the settings of this instance.

    Parameters
    ----------
    path
        The operator's file; without it ``KOWALSKI_CONFIG``, then ``config.yaml`` in the project's folder if present.
        A file that says ``complete: true`` stands alone: defaults are not merged with it.
    environ
        Where ``KOWALSKI_*`` variables and ``USE_TENSORFLOW`` are looked up.

    Raises
    ------
    ConfigError
        If a file is missing or no YAML, or a setting is unknown, of a wrong type or impossible.
    """
    merged = _read(PROJECT / "config.defaults.yaml")
    warnings: list[str] = []
    source = _operators_file(path, environ)
    if source is not None:
        content = _read(source)
        is_complete = content.pop("complete", False)
        overlay, warnings = translate(content)
        merged = overlay if is_complete else _merge(merged, overlay)
    merged = _merge(merged, _from_environment(environ, merged))
    settings = _validate(merged, source)
    for name in settings.path.model_fields_set | set(type(settings.path).model_fields):
        setattr(settings.path, name, (PROJECT / getattr(settings.path, name).expanduser()).resolve())
    Secrets.read(settings.path.run).fill(settings)
    return Loaded(settings, warnings)


def _operators_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"the configuration file {named} does not exist")
        return named
    usual = PROJECT / "config.yaml"
    return usual if usual.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections such as `server:`, not a {type(content).__name__}")
    inner = content.get("kowalski")
    return inner if isinstance(inner, dict) and len(content) == 1 else content


def _merge(base: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``overlay`` over ``base``: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``KOWALSKI_A__B=value`` variables into nested settings; names match whatever their case."""
    found: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        target, level = found, known
        *parents, leaf = name.removeprefix(PREFIX).split("__")
        for part in parents:
            key = _same_key(part, level)
            target = target.setdefault(key, {})
            below = level.get(key)
            level = below if isinstance(below, Mapping) else {}
        target[_same_key(leaf, level)] = _parse_text(text, name)
    switch = environ.get("USE_TENSORFLOW")
    if switch is not None:
        found.setdefault("ml", {}).setdefault("use_tensorflow", switch.lower() in {"1", "t", "true", "yes", "on"})
    return found


def _same_key(part: str, level: Mapping[str, Any]) -> str:
    return next((key for key in level if str(key).lower() == part.lower()), part.lower())


def _parse_text(text: str, name: str) -> Any:
    if text.lower() in {"null", "none", "~", ""}:
        return None
    if text[0] not in "[{":
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}={text} is neither text nor a YAML list or mapping") from error


def _validate(merged: dict[str, Any], source: Path | None) -> Settings:
    kept = {
        name: _without_nulls(section) if name in {"database", "ml"} else section for name, section in merged.items()
    }
    try:
        return Settings.model_validate({name: {} if section is None else section for name, section in kept.items()})
    except ValidationError as error:
        where = f"{source}: " if source else ""
        raise ConfigError(where + _sentence(error, merged)) from error


def _without_nulls(section: Any) -> Any:
    """Drop catalogs and models that an overlay has set to null, which is how it takes a default one away."""
    if not isinstance(section, dict):
        return section
    return {
        key: {k: v for k, v in value.items() if v is not None} if key in {"models"} else _clean_xmatch(key, value)
        for key, value in ((key, _without_nulls(value)) for key, value in section.items())
    }


def _clean_xmatch(key: str, value: Any) -> Any:
    if key != "xmatch" or not isinstance(value, dict):
        return value
    return {
        survey: {name: catalog for name, catalog in (catalogs or {}).items() if catalog is not None}
        for survey, catalogs in value.items()
    }


def _sentence(error: ValidationError, given: Mapping[str, Any]) -> str:
    """Say in one sentence which key is wrong, what it holds and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = _siblings(first["loc"])
        close = difflib.get_close_matches(str(first["loc"][-1]), allowed, n=1)
        parent = key.rpartition(".")[0]
        meant = f"{parent}.{close[0]}" if close and parent else "".join(close)
        hint = f"did you mean {meant}?" if close else f"known here: {', '.join(allowed)}"
        return f"unknown setting {key} = {first['input']!r}; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message}" if key else message


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(str(part))
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return sorted(model.model_fields)
