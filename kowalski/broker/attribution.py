"""What a user's pipeline does to many alerts at once, told from its stages.

A pipeline that looks at one document at a time gives the same answer for a whole batch as for each alert alone; whose
answer it is tells ``_id`` or ``candid``, if the pipeline keeps one of them. Anything that is not plainly so is run
alert by alert, which is always right and only slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Stage = Mapping[str, Any]

ONE_AT_A_TIME = frozenset(
    {"$match", "$project", "$addFields", "$set", "$unset", "$redact", "$replaceRoot", "$replaceWith"}
)
"""Stages whose result for a document does not depend on other documents."""

NAMES = ("_id", "candid")
"""Fields that tell to which alert a result belongs, best first."""


def attribution(pipeline: Sequence[Stage]) -> str | None:
    """Tell by which field results of ``pipeline`` on a batch are told apart; None if it must run alert by alert."""
    kept = set(NAMES)
    for stage in pipeline:
        if len(stage) != 1:
            return None
        ((operator, spec),) = stage.items()
        if operator not in ONE_AT_A_TIME:
            return None
        kept = {name for name in kept if _keeps(operator, spec, name)}
    return next((name for name in NAMES if name in kept), None)


def _keeps(operator: str, spec: Any, name: str) -> bool:
    match operator:
        case "$match" | "$redact":
            return True
        case "$addFields" | "$set":
            return isinstance(spec, Mapping) and not _writes(spec, name)
        case "$unset":
            dropped = [spec] if isinstance(spec, str) else spec
            return isinstance(dropped, Sequence) and name not in dropped
        case "$project":
            return isinstance(spec, Mapping) and _projected(spec, name)
    return False


def _writes(spec: Mapping[str, Any], name: str) -> bool:
    """Whether ``spec`` gives ``name`` (or a part of it) a value of its own."""
    return any(key.split(".")[0] == name and value != f"${name}" for key, value in spec.items())


def _projected(spec: Mapping[str, Any], name: str) -> bool:
    if any(key.startswith(f"{name}.") for key in spec):
        return False
    if name not in spec:
        return name == "_id" or _excludes(spec)
    value = spec[name]
    if isinstance(value, bool | int | float):
        return bool(value)
    return bool(value == f"${name}")


def _excludes(spec: Mapping[str, Any]) -> bool:
    """Whether a projection drops fields instead of choosing them; ``_id`` may be dropped in both kinds."""
    values = [value for key, value in spec.items() if key != "_id"] or list(spec.values())
    return all(isinstance(value, bool | int | float) and not value for value in values)
