"""Settings of the existing system's ``config.yaml``: renamed ones are moved, meaningless ones named in a warning."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

MOVED = {
    "server.JWT_SECRET_KEY": "server.jwt_secret_key",
    "server.JWT_ALGORITHM": "server.jwt_algorithm",
    "server.JWT_EXP_DELTA_SECONDS": "server.jwt_exp_delta_seconds",
    "misc.broker": "skyportal.enabled",
    "misc.max_time_ms": "queries.max_time_ms",
    "misc.logging_level": "logging.level",
    "database.max_wired_tiger_cache": "database.cache_gb",
    "dask.dashboard_address": "dask.dashboard_port",
    "tns.url": "watchers.tns.url",
    "tns.bot_id": "watchers.tns.bot_id",
    "tns.bot_name": "watchers.tns.bot_name",
    "tns.api_key": "watchers.tns.api_key",
    "ztf_ops.url": "watchers.ztf_ops.url",
    "ztf_ops.username": "watchers.ztf_ops.username",
    "ztf_ops.password": "watchers.ztf_ops.password",
    "ztf_depot.username": "watchers.ztf_matchfiles.username",
    "ztf_depot.password": "watchers.ztf_matchfiles.password",
    "slack.slack_bot_token": "watchers.report.slack_token",
    "slack.slack_channel_id": "watchers.report.slack_channel",
    "enabled.ztf": "surveys.ZTF.enabled",
    "enabled.pgir": "surveys.PGIR.enabled",
    "enabled.wntr": "surveys.WNTR.enabled",
    "enabled.turbo": "surveys.TURBO.enabled",
}
"""Where a setting of the existing system lives now."""

MEANINGLESS = {
    "server.version": "the version is the program's own",
    "server.description": "the documentation describes itself",
    "server.SECRET_KEY": "it was never used",
    "server.fernet_key": "it was never used",
    "kafka.default": "offsets are committed, a new group starts at the earliest",
    "kafka.scala_version": "the embedded Kafka has a fixed version",
    "kafka.kafka_version": "the embedded Kafka has a fixed version",
    "kafka.zookeeper": "Kafka runs without ZooKeeper",
    "kafka.bootstrap.test": "tests start a Kafka of their own",
    "kafka.path": "the embedded Kafka comes with the locked dependencies",
    "kafka.processes_per_topic": "one broker process per survey reads all its topics",
    "database.collections": "collection names follow from the survey",
    "database.filters": "a filter's first stages follow from the survey",
    "dask_pgir": "one Dask cluster serves all surveys",
    "dask_wntr": "one Dask cluster serves all surveys",
    "dask_turbo": "one Dask cluster serves all surveys",
    "skyportal.username": "the token names the user",
    "misc": "its settings have moved to other sections",
    "enabled": "each survey's section has a switch",
    "path.app": "paths follow from the project's folder",
    "path.docs": "paths follow from the project's folder",
    "path.logs": "logs are kept under path.run",
    "path.queries": "queries are not kept as files",
    "path.tess": "it was never used",
    "path.tmp": "temporary files are kept under path.run",
    "path.kafka": "the embedded Kafka comes with the locked dependencies",
    "path.ml_models_ztf": "set path.models",
    "path.ml_models_pgir": "set path.models",
    "supervisord": "`up` writes the supervisor's programs itself",
    "ztf": "triggers.telescopes name the servers that requests for observations go to; nothing opens a tunnel",
    "ztf_depot": "its settings have moved to watchers.ztf_matchfiles",
    "ztf_ops": "its settings have moved to watchers.ztf_ops",
    "tns": "its settings have moved to watchers.tns",
    "slack": "its settings have moved to watchers.report",
}
"""Settings of the existing system without effect here, and why."""

PUBLISHED_KEYS = ("abc0123",)
"""Token keys that everybody can read in the existing system's defaults; a random one takes their place."""


def translate(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn an operator's settings, of this system or the existing one, into this system's.

    Returns
    -------
    tuple
        The settings under today's names, and one sentence for each that has lost its meaning.
    """
    current = deepcopy(dict(settings))
    if "kafka" in current:
        current["kafka"] = _expand_dotted(current["kafka"])
    warnings: list[str] = []
    for old, new in MOVED.items():
        value = _pop(current, old)
        if value is not None and (value := _adapt(old, value, warnings)) is not None:
            _put(current, new, value)
    for key, reason in MEANINGLESS.items():
        if _pop(current, key) not in (None, {}):
            warnings.append(f"{key} has no effect: {reason}")
    _evaluate_features(current.get("ml"))
    return current, warnings


def _adapt(old: str, value: Any, warnings: list[str]) -> Any:
    """Write the value of ``old`` as its new place wants it; None, with a warning, where there is no such thing."""
    if old == "dask.dashboard_address" and isinstance(value, str):
        return value.rpartition(":")[2]
    if old == "misc.logging_level" and isinstance(value, str):
        return {"critical": "error", "warn": "warning"}.get(value.lower(), value.lower())
    if old == "server.JWT_SECRET_KEY" and value in PUBLISHED_KEYS:
        warnings.append(f"{old} has no effect: its value is published, so a random key is used")
        return None
    if old == "database.max_wired_tiger_cache" and isinstance(value, str) and value.strip().endswith("%"):
        warnings.append(f"{old} has no effect: set database.cache_gb, in GB")
        return None
    return value


def _expand_dotted(kafka: Any) -> Any:
    """Nest Kafka's literal dotted keys: ``{"bootstrap.servers": x}`` becomes ``{"bootstrap": {"servers": x}}``."""
    if not isinstance(kafka, dict):
        return kafka
    expanded: dict[str, Any] = {}
    for key, content in kafka.items():
        head, *rest = key.split(".")
        for part in reversed(rest):
            content = {part: content}
        present = expanded.get(head)
        expanded[head] = _deep(present, content) if isinstance(present, dict) and isinstance(content, dict) else content
    return expanded


def _deep(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    joined = dict(one)
    for key, value in other.items():
        below = joined.get(key)
        joined[key] = _deep(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


def _pop(settings: dict[str, Any], key: str) -> Any:
    *parents, leaf = key.split(".")
    level: Any = settings
    for part in parents:
        level = level.get(part) if isinstance(level, dict) else None
    return level.pop(leaf, None) if isinstance(level, dict) else None


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    level = settings
    for part in parents:
        below = level.setdefault(part, {})
        if not isinstance(below, dict):
            return
        level = below
    level.setdefault(leaf, value)


def _evaluate_features(ml: Any) -> None:
    """Read feature lists that the existing system writes as the text of a Python tuple."""
    for survey in _mappings(ml):
        _evaluate(survey, "allowed_features")
        for model in _mappings(survey.get("models")):
            _evaluate(model, "feature_names")
            _evaluate(model, "order")


def _mappings(holder: Any) -> list[dict[str, Any]]:
    return [value for value in holder.values() if isinstance(value, dict)] if isinstance(holder, dict) else []


def _evaluate(holder: dict[str, Any], key: str) -> None:
    text = holder.get(key)
    if isinstance(text, str):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return  # left as it is: the settings' validation names the key
        holder[key] = list(found) if isinstance(found, tuple) else found
