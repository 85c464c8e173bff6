"""Settings: the only room that reads YAML files and the environment.

Defaults come from ``config.defaults.yaml``, then ``config.yaml`` (or the file of ``--config`` / ``KOWALSKI_CONFIG``) is
laid over them, then variables such as ``KOWALSKI_SERVER__PORT=4001``. Whatever is wrong becomes one `ConfigError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kowalski import surveys
from kowalski.config import sources
from kowalski.config.errors import ConfigError, sentence, unknown
from kowalski.config.legacy import translate
from kowalski.config.secrets import Secrets
from kowalski.config.settings import MachineLearning, Settings, Surveys
from kowalski.surveys import plugins

__all__ = ["PROJECT", "ConfigError", "Loaded", "Settings", "load", "operators_file"]

PROJECT = Path(__file__).resolve().parents[2]


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
    merged = sources.read(PROJECT / "config.defaults.yaml")
    warnings: list[str] = []
    source = operators_file(path, environ)
    if source is not None:
        content = sources.read(source)
        is_complete = content.pop("complete", False)
        overlay, warnings = translate(content)
        merged = overlay if is_complete else sources.merge(merged, overlay)
    variables = sources.from_environment(environ, merged)
    merged = sources.merge(merged, variables)
    _load_plugins(merged, source, variables)
    settings = _validate(merged, source, variables)
    for name in type(settings.path).model_fields:
        setattr(settings.path, name, (PROJECT / getattr(settings.path, name)).resolve())
    Secrets.read(settings.path.run).fill(settings)
    return Loaded(settings, warnings)


def operators_file(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Find the file with the operator's settings; None if there is none.

    Raises
    ------
    ConfigError
        If one is named and does not exist.
    """
    variable = environ.get(sources.PREFIX + "CONFIG")
    named = path or (Path(variable) if variable else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"the configuration file {named} does not exist")
        return named
    usual = PROJECT / "config.yaml"
    return usual if usual.is_file() else None


def _surveys_in(merged: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any], list[str]]]:
    """Go through the sections whose keys are names of surveys: where they are, what they hold, their other keys."""
    places: dict[tuple[str, ...], list[str]] = {
        ("surveys",): list(Surveys.model_fields),
        ("ml",): list(MachineLearning.model_fields),
        ("database", "xmatch"): [],
    }
    for path, others in places.items():
        level: Any = merged
        for part in path:
            level = level.get(part) if isinstance(level, dict) else None
        if isinstance(level, dict):
            yield path, level, others


def _load_plugins(merged: dict[str, Any], source: Path | None, variables: Mapping[str, Any]) -> None:
    """Take in surveys that are declared elsewhere; each is enabled unless its section says otherwise."""
    section = merged.get("surveys")
    named = section.get("plugins") if isinstance(section, dict) else None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return  # which validation will tell
    for name in named:
        try:
            found = plugins.load(name, PROJECT)
        except plugins.PluginError as error:
            origin = _origin(("surveys", "plugins"), source, variables)
            raise ConfigError(f"{origin}surveys.plugins: {error}") from error
        for survey in found:
            merged["surveys"].setdefault(survey.name, {})


def _validate(merged: dict[str, Any], source: Path | None, variables: Mapping[str, Any]) -> Settings:
    for path, section, others in _surveys_in(merged):
        for name in sorted(section.keys() - others - surveys.SURVEYS.keys()):
            location = (*path, name)
            text = unknown(".".join(location), [*others, *surveys.SURVEYS], section[name])
            raise ConfigError(_origin(location, source, variables) + text)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        location, text = sentence(error, Settings)
        raise ConfigError(_origin(location, source, variables) + text) from error


def _origin(location: tuple[str, ...], source: Path | None, variables: Mapping[str, Any]) -> str:
    """Say where a wrong setting comes from: a variable or the operator's file."""
    level: Any = variables
    for part in location:
        level = level.get(part) if isinstance(level, Mapping) else None
    if location and level is not None:
        return f"variable {sources.PREFIX}{'__'.join(location).upper()}: "
    return f"{source}: " if source is not None else ""
