"""Projections of ``find`` as stages of an aggregation, for documents of which something is taken out first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kowalski.api.sandbox import SandboxError

Stage = dict[str, Any]


def stages(projection: Mapping[str, Any] | Sequence[str] | None) -> list[Stage]:
    """Translate a projection.

    Raises
    ------
    SandboxError
        If it picks elements of arrays by what matched, which aggregations can't.
    """
    if not projection:
        return []
    shown = dict(projection) if isinstance(projection, Mapping) else dict.fromkeys(projection, 1)
    slices: Stage = {}
    for path, value in shown.items():
        if path.endswith(".$") or (isinstance(value, Mapping) and "$elemMatch" in value):
            raise SandboxError(f"projection: with your permissions {path} can't be chosen so; use $filter in aggregate")
        if isinstance(value, Mapping) and list(value) == ["$slice"] and not _names_array(value["$slice"]):
            slices[path] = _slice(path, value["$slice"])
    rest = {path: value for path, value in shown.items() if path not in slices}
    decisive = [value for path, value in rest.items() if path != "_id"] or list(rest.values())
    if any(value not in (0, False) for value in decisive):
        rest |= dict.fromkeys(slices, 1)
    return [*([{"$set": slices}] if slices else []), *([{"$project": rest}] if rest else [])]


def _names_array(argument: Any) -> bool:
    """Whether a ``$slice`` is the expression, which names its array, and not the one of ``find``, which has its own."""
    return isinstance(argument, list | tuple) and bool(argument) and not isinstance(argument[0], int | float)


def _slice(path: str, argument: Any) -> Stage:
    parts = list(argument) if isinstance(argument, list | tuple) else [argument]
    return {"$cond": [{"$isArray": f"${path}"}, {"$slice": [f"${path}", *parts]}, f"${path}"]}
