"""Projections of ``find`` as stages of an aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kowalski.api.sandbox import SandboxError
from kowalski.archive.catalogs import excludes

Stage = dict[str, Any]
Projection = Mapping[str, Any] | Sequence[str] | None


def is_translatable(projection: Projection) -> bool:
    """Whether a projection looks at documents alone, and not at which element of an array has matched."""
    return _by_match(projection) is None


def stages(projection: Projection, *, keep: str | None = None) -> list[Stage]:
    """Translate a projection.

    Parameters
    ----------
    keep
        A field that is kept besides.

    Raises
    ------
    SandboxError
        If it picks elements of arrays by what matched, which aggregations can't.
    """
    if not projection:
        return []
    path = _by_match(projection)
    if path is not None:
        raise SandboxError(f"projection: with your permissions {path} can't be chosen so; use $filter in aggregate")
    shown = dict(projection) if isinstance(projection, Mapping) else dict.fromkeys(projection, 1)
    slices = {
        path: _slice(path, value["$slice"])
        for path, value in shown.items()
        if isinstance(value, Mapping) and list(value) == ["$slice"] and not _names_array(value["$slice"])
    }
    rest = {path: value for path, value in shown.items() if path not in slices}
    if rest and not excludes(rest):
        rest |= dict.fromkeys([*slices, *([keep] if keep else [])], 1)
    return [*([{"$set": slices}] if slices else []), *([{"$project": rest}] if rest else [])]


def _by_match(projection: Projection) -> str | None:
    """Find a path that is chosen by what matched."""
    if isinstance(projection, Mapping):
        for path, value in projection.items():
            if path.endswith(".$") or (isinstance(value, Mapping) and "$elemMatch" in value):
                return path
    return None


def _names_array(argument: Any) -> bool:
    """Whether a ``$slice`` is the expression, which names its array, and not the one of ``find``, which has its own."""
    return isinstance(argument, list | tuple) and bool(argument) and not isinstance(argument[0], int | float)


def _slice(path: str, argument: Any) -> Stage:
    parts = list(argument) if isinstance(argument, list | tuple) else [argument]
    return {"$cond": [{"$isArray": f"${path}"}, {"$slice": [f"${path}", *parts]}, f"${path}"]}
