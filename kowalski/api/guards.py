"""Program ids: how queries of users who may not see every program are changed, so that the rest isn't there for them.

A survey says what may be seen of its collections (`kowalski.surveys.base.Guard`). Here that is put in front of whatever
a query does with such a collection, wherever in a pipeline it is read; the query must have passed the sandbox.

The guard's condition and a user's own may be evaluated in any order, by MongoDB's choice. That is no matter as long as
neither can fail: an expression that fails on some values (`$toInt`, `$divide`, …) would tell by its error what a
hidden document holds. Such conditions come after a fence that MongoDB moves nothing across.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kowalski import surveys
from kowalski.api.accounts import Accounts
from kowalski.api.sandbox import SandboxError
from kowalski.archive.users import User
from kowalski.surveys.base import FENCE, Guard

Stage = dict[str, Any]
Condition = Mapping[str, Any]

NEVER_FAIL = frozenset(
    ("$and", "$or", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp", "$ifNull", "$cond", "$type")
)
"""Operators of expressions that give a value for whatever they are given."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What one user sees of each collection of which it is not everything."""

    by_collection: Mapping[str, Guard] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_collection)

    def get(self, catalog: str) -> Guard | None:
        """Find the guard of a collection; None if the user sees all of it."""
        return self.by_collection.get(catalog)

    def pipeline(self, catalog: str, stages: Sequence[Stage]) -> list[Stage]:
        """Change a pipeline on ``catalog`` so that neither it nor its joins get at what the user may not see.

        Raises
        ------
        SandboxError
            If that is not possible; the text says what to write instead.
        """
        guard = self.get(catalog)
        if guard is None:
            return [changed for stage in stages for changed in self._stage(stage, guarded=False)]
        first, rest = _first(guard, catalog, stages)
        return [*first, *guard.stages, *(changed for stage in rest for changed in self._stage(stage, guarded=True))]

    def _stage(self, stage: Stage, *, guarded: bool) -> list[Stage]:
        ((name, argument),) = stage.items()
        match name:
            case "$match" if guarded:
                return _fenced(argument)
            case "$facet":
                inner = {key: self._inner(stages, guarded=guarded) for key, stages in argument.items()}
                return [{name: inner}]
            case "$lookup":
                return [{name: self._lookup(argument)}]
            case "$graphLookup":
                return [{name: self._graph_lookup(argument)}]
            case "$unionWith":
                union: Stage = {"coll": argument} if isinstance(argument, str) else argument
                return [{name: {**union, "pipeline": self.pipeline(union["coll"], union.get("pipeline") or [])}}]
        return [stage]

    def _inner(self, stages: Sequence[Stage], *, guarded: bool) -> list[Stage]:
        return [changed for stage in stages for changed in self._stage(stage, guarded=guarded)]

    def _lookup(self, join: Stage) -> Stage:
        source = join["from"]
        guard = self.get(source)
        if guard is None and "pipeline" not in join:
            return join
        if guard is not None:
            # This comparison comes before the pipeline, where hidden rows are still in the document.
            _refuse_rows(guard, source, join.get("foreignField"), "$lookup", "foreignField")
        return {**join, "pipeline": self.pipeline(source, join.get("pipeline") or [])}

    def _graph_lookup(self, join: Stage) -> Stage:
        guard = self.get(join["from"])
        if guard is None:
            return join
        if guard.stages:
            raise SandboxError(f"$graphLookup: with your permissions {join['from']} can be joined by $lookup only")
        own = join.get("restrictSearchWithMatch") or {}
        if may_fail(own):
            raise SandboxError("$graphLookup: restrictSearchWithMatch may not compute here; use $match afterwards")
        return {**join, "restrictSearchWithMatch": {"$and": [guard.match, own]}}


def of(user: User, accounts: Accounts) -> Guards:
    """Collect what a user may see; of a survey whose programs they all see, no guard."""
    guards: dict[str, Guard] = {}
    for name, survey in surveys.SURVEYS.items():
        programs = accounts.programs(user, name)
        if programs is not None:
            guards |= survey.guards(sorted(programs))
    return Guards(guards)


def may_fail(condition: Any) -> bool:
    """Whether a filter may end in an error for what a document holds: where it computes, and not only compares."""
    if isinstance(condition, Mapping):
        return any(not _never_fails(item) if key == "$expr" else may_fail(item) for key, item in condition.items())
    return isinstance(condition, list | tuple) and any(map(may_fail, condition))


def split(condition: Condition) -> tuple[Stage, Stage]:
    """Split a filter in two that hold together: what never fails, and the rest."""
    safe: Stage = {}
    rest: Stage = {}
    for key, item in condition.items():
        if key == "$and" and isinstance(item, list | tuple):
            for half, failing in ((safe, False), (rest, True)):
                parts = [part for part in item if may_fail(part) is failing]
                if parts:
                    half[key] = parts
        else:
            (rest if may_fail({key: item}) else safe)[key] = item
    return safe, rest


def _never_fails(expression: Any) -> bool:
    if isinstance(expression, Mapping):
        return all(
            key == "$literal" or ((key in NEVER_FAIL or not key.startswith("$")) and _never_fails(item))
            for key, item in expression.items()
        )
    return not isinstance(expression, list | tuple) or all(map(_never_fails, expression))


def _fenced(condition: Any) -> list[Stage]:
    if not may_fail(condition):
        return [{"$match": condition}]
    safe, rest = split(condition)
    return [*([{"$match": safe}] if safe else []), FENCE, {"$match": rest}]


def _first(guard: Guard, catalog: str, stages: Sequence[Stage]) -> tuple[list[Stage], Sequence[Stage]]:
    """Give what must come first, and the stages that are left to come afterwards."""
    if not stages or "$geoNear" not in stages[0]:
        return [{"$match": dict(guard.match)}], stages
    search = dict(stages[0]["$geoNear"])
    _refuse_rows(guard, catalog, search.get("key"), "$geoNear", "key")
    own = search.pop("query", None)
    # The user's condition may look at rows that are still to be taken out, or fail: so it comes afterwards.
    return [{"$geoNear": {**search, "query": guard.match}}], [*([{"$match": own}] if own else []), *stages[1:]]


def _refuse_rows(guard: Guard, catalog: str, path: Any, stage: str, argument: str) -> None:
    if isinstance(path, str) and guard.thins(path):
        raise SandboxError(
            f"{stage}: with your permissions {argument} can't be {path!r} of {catalog}; "
            "compare it by a $match in the pipeline instead"
        )
