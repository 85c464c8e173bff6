"""What a user's query or filter may contain.

The account that runs queries can read the data database and nothing else; what is refused here is what that account
could still do: run scripts, reach MongoDB's own collections, and names that used to hold system documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kowalski.api.errors import ApiError
from kowalski.api.literals import MAX_DEPTH
from kowalski.api.operators import OPERATORS
from kowalski.archive import names

PROTECTED = names.SYSTEM | {"queries"}
"""Collections of system documents, which users' queries must not name; older systems kept them beside the data."""

JOINS = {"$lookup": "from", "$graphLookup": "from", "$unionWith": "coll"}
"""Stages that read another collection, and the argument that names it."""
WRITES = frozenset({"$out", "$merge"})
SCRIPTS = frozenset({"$where", "$function", "$accumulator"})

FILTER_STAGES = frozenset(
    {
        "$addFields",
        "$bucket",
        "$bucketAuto",
        "$count",
        "$densify",
        "$facet",
        "$fill",
        "$group",
        "$limit",
        "$match",
        "$project",
        "$redact",
        "$replaceRoot",
        "$replaceWith",
        "$sample",
        "$set",
        "$setWindowFields",
        "$skip",
        "$sort",
        "$sortByCount",
        "$unset",
        "$unwind",
    }
)
"""Stages of a filter: they see the alert and its object, and nothing else."""
QUERY_STAGES = FILTER_STAGES | JOINS.keys() | {"$geoNear"}
"""Stages of an aggregation."""
KNOWN_STAGES = QUERY_STAGES | WRITES
KNOWN = OPERATORS | KNOWN_STAGES
"""Everything with a dollar sign that may be a key; what MongoDB has besides is for itself, or not known to be safe."""


class SandboxError(ApiError):
    """A query contains what is not allowed."""


def check_catalog(name: str) -> str:
    """Check the name of a collection and return it without surrounding blanks.

    Raises
    ------
    SandboxError
        If it is none that users may read.
    """
    name = name.strip()
    if name in PROTECTED or name.startswith("system.") or "$" in name or "\0" in name:
        raise SandboxError(f"Protected collection: {name!r}")
    return name


def check_expression(value: Any, depth: int = 0) -> None:
    """Check a filter, a projection or any part of a pipeline, at every depth.

    Raises
    ------
    SandboxError
        If there is a script, a write, an operator that is not known to be safe, or a join with a protected collection
        in it.
    """
    if depth > MAX_DEPTH:
        raise SandboxError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_operator(key, item)
            check_expression(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_expression(item, depth + 1)


def check_pipeline(pipeline: Sequence[Any], allowed: frozenset[str] = QUERY_STAGES, what: str = "Pipeline") -> None:
    """Check a pipeline with all pipelines inside it.

    Parameters
    ----------
    pipeline
        Its stages.
    allowed
        Names of the stages that may be used.
    what
        What the pipeline is called in errors.

    Raises
    ------
    SandboxError
        If it is empty, no pipeline, or contains what is not allowed.
    """
    if not pipeline:
        raise SandboxError(f"{what} must contain at least one stage")
    used = {name for name, _ in _stages(pipeline, what)}
    unknown = used - KNOWN_STAGES
    if unknown:
        raise SandboxError(f"{what} uses unknown stages: {_listed(unknown)}")
    forbidden = used - allowed
    if forbidden:
        raise SandboxError(f"{what} uses forbidden stages: {_listed(forbidden)}")
    check_expression(pipeline)


def targets(pipeline: Sequence[Any]) -> set[str]:
    """Find the collections that a pipeline joins, at any depth."""
    named = {_target(name, argument) for name, argument in _stages(pipeline, "Pipeline") if name in JOINS}
    return {name for name in named if name is not None}


def _check_operator(key: Any, argument: Any) -> None:
    if not isinstance(key, str):
        raise SandboxError(f"names of fields and operators are texts: {key!r}"[:200])
    if key in SCRIPTS or key in WRITES:
        raise SandboxError(f"{key} is not allowed")
    if key.startswith("$") and key not in KNOWN:
        raise SandboxError(f"unknown operator: {key[:100]}")
    if key in JOINS:
        target = _target(key, argument)
        if target is None:
            raise SandboxError(f"{key} must name its collection in {JOINS[key]!r}")
        if target != check_catalog(target):
            raise SandboxError(f"{key}: {target!r} is no name of a collection")


def _target(join: str, argument: Any) -> str | None:
    """Give the name of the collection that a join reads, if it is one of the same database."""
    if join == "$unionWith" and isinstance(argument, str):
        return argument
    target = argument.get(JOINS[join]) if isinstance(argument, dict) else None
    return target if isinstance(target, str) else None


def _stages(pipeline: Any, what: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield name and argument of each stage, those of inner pipelines included."""
    if depth > MAX_DEPTH:
        raise SandboxError(f"{what} is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(pipeline, list | tuple):
        raise SandboxError(f"{what} must be a list of stages")
    for stage in pipeline:
        if not isinstance(stage, dict) or len(stage) != 1:
            raise SandboxError(f"{what} must be a list of stages, each an object with one key")
        ((name, argument),) = stage.items()
        yield name, argument
        for inner in _inner_pipelines(name, argument):
            yield from _stages(inner, what, depth + 1)


def _inner_pipelines(name: str, argument: Any) -> list[Any]:
    if not isinstance(argument, dict):
        if name in ("$facet", "$geoNear"):
            raise SandboxError(f"{name} must be an object")
        return []
    if name == "$facet":
        return list(argument.values())
    return [argument["pipeline"]] if name in JOINS and "pipeline" in argument else []


def _listed(stages: Iterable[str]) -> str:
    return "{" + ", ".join(repr(stage) for stage in sorted(stages)) + "}"
