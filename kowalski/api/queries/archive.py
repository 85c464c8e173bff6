"""What every query works with: the collections as one user sees them, and the ceilings that hold."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ExecutionTimeout

from kowalski.api import guards, reading, sandbox
from kowalski.api.formats.encoder import Encoder, Meter
from kowalski.api.guards import Guards, Stage
from kowalski.api.leaving import Session
from kowalski.api.lookups import Kind, as_text
from kowalski.api.models.queries import CountOptions, FindOptions, Options
from kowalski.api.queries import projections
from kowalski.api.reading import FIRST, RawCursor
from kowalski.api.services import Services
from kowalski.archive.client import Document
from kowalski.archive.users import User
from kowalski.config.serving import Queries

COUNTED = 20_000
"""Documents up to which an estimate is a count."""
SAMPLE = 900
"""Documents of which an estimate knows whether the user sees them; below 5 % of all, where MongoDB draws cheaply."""

Projection = Mapping[str, Any] | Sequence[str] | None


@dataclass(slots=True)
class Archive:
    """The archive as one user sees it, for one query.

    Attributes
    ----------
    session
        What is done in the data database belongs to it, so that it can be ended together.
    guards
        What the user does not see.
    limits
        Ceilings for users of that role.
    """

    services: Services
    user: User
    session: Session | None = None
    guards: Guards = field(init=False)
    limits: Queries = field(init=False)
    _started: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        accounts = self.services.accounts
        self.guards = guards.of(self.user, accounts)
        role = "admin" if accounts.is_admin(self.user) else self.user.role
        self.limits = self.services.settings.queries.of(role)

    def encoder(self) -> Encoder:
        """Make the encoder for the answer."""
        return Encoder(self.services.encoder, Meter(self.limits))

    async def collection(self, name: str, joined: Iterable[str] = ()) -> AsyncCollection[Document]:
        """Find a collection that the user may read.

        The administrator may also read system documents.

        Parameters
        ----------
        joined
            Further collections that the query reads.

        Raises
        ------
        SandboxError
            If it is a protected one, or a view of something that the user may not see as a whole.
        """
        if name in sandbox.PROTECTED and self.services.accounts.is_admin(self.user):
            return self.services.system[name]
        name = sandbox.check_catalog(name)
        if self.guards:
            hidden = self.guards.by_collection.keys() | sandbox.PROTECTED
            for view, sources in (await self.services.views.sources({name, *joined})).items():
                if sources & hidden:
                    raise sandbox.SandboxError(f"{view} is a view of {', '.join(sorted(sources & hidden))}; ask those")
        return self.services.collection(name)

    async def find(self, catalog: str, condition: Stage, projection: Projection, options: FindOptions) -> RawCursor:
        """Start to look for the documents that match a condition.

        Raises
        ------
        SandboxError
            If the condition or the projection holds what is not allowed.
        """
        sandbox.check_expression([condition, projection])
        collection = await self.collection(catalog)
        guard = self.guards.get(collection.name)
        if guard is not None and (guard.stages or guards.may_fail(condition)):
            return await self._find_behind(collection, condition, projection, options)
        if guard is not None:
            condition = {"$and": [guard.match, condition]}
        chosen = {name: value for name in ("sort", "hint") if (value := getattr(options, name))}
        return collection.find_raw_batches(
            condition,
            projection or None,
            batch_size=FIRST,
            skip=options.skip or 0,
            limit=options.limit or 0,
            max_time_ms=self.time(options),
            comment=self.user.name,
            session=self.session_of(collection),
            **chosen,
        )

    async def look_up(
        self, catalog: str, condition: Stage, projection: Projection, options: FindOptions
    ) -> list[bytes] | None:
        """Find documents (BSON) by their key, together with what others ask for; None if the condition names none."""
        lookups = self.services.lookups
        asked = lookups.key_of(catalog, condition, projection)
        if asked is None or options.sort or options.hint or options.skip:
            return None
        collection = await self.collection(catalog)
        guard = self.guards.get(catalog)
        if collection.database is not self.services.data or (guard is not None and guard.stages):
            return None
        seen = {} if guard is None else dict(guard.match)
        time_ms = min(options.max_time_ms or self.limits.max_time_ms, self.limits.max_time_ms)
        texts = (as_text(projection), as_text(seen))
        kind = Kind(catalog, asked[0], *texts, self.user.name, time_ms)
        found = await lookups.find(collection, kind, asked[1], seen, projection or None)
        return found[: options.limit or None]

    async def _find_behind(
        self, collection: AsyncCollection[Document], condition: Stage, projection: Projection, options: FindOptions
    ) -> RawCursor:
        """Find by aggregation, where a guard must have done its work before the condition is looked at."""
        sort: Stage = dict(options.sort or ())
        hint: Any = options.hint
        if list(sort) == ["$natural"] and hint is None:  # an order of `find`, which aggregations know as a hint
            sort, hint = {}, [("$natural", sort["$natural"])]
        stages: list[Stage] = [{"$match": condition}]
        stages += [{"$sort": sort}] if sort else []
        stages += [{"$skip": options.skip}] if options.skip else []
        stages += [{"$limit": options.limit}] if options.limit else []
        stages += projections.stages(projection)
        return await self._aggregate(collection, stages, options, hint=hint, batchSize=FIRST)

    async def aggregate(self, catalog: str, pipeline: Sequence[Stage], options: Options, **arguments: Any) -> RawCursor:
        """Start a pipeline, which must have passed the sandbox, on what the user sees of a catalog.

        Parameters
        ----------
        arguments
            Further arguments of the command, such as ``hint``, ``batchSize`` and ``allowDiskUse``.
        """
        collection = await self.collection(catalog, sandbox.targets(pipeline))
        return await self._aggregate(collection, pipeline, options, **arguments)

    async def _aggregate(
        self, collection: AsyncCollection[Document], pipeline: Sequence[Stage], options: Options, **arguments: Any
    ) -> RawCursor:
        seen = self.guards.pipeline(collection.name, pipeline)
        given = {"maxTimeMS": self.time(options), "comment": self.user.name, "allowDiskUse": True, **arguments}
        hint = given.pop("hint", None)
        if hint:
            given["hint"] = hint if isinstance(hint, str) else dict(hint)
        return await collection.aggregate_raw_batches(seen, session=self.session_of(collection), **given)

    async def count(self, catalog: str, condition: Stage, options: CountOptions) -> int:
        """Count the documents that match a condition."""
        sandbox.check_expression(condition)
        stages: list[Stage] = [{"$match": condition}]
        stages += [{"$skip": options.skip}] if options.skip else []
        stages += [{"$limit": options.limit}] if options.limit else []
        cursor = await self.aggregate(catalog, [*stages, {"$count": "count"}], options, hint=options.hint)
        return await self._counted(cursor)

    async def estimate(self, catalog: str, options: Options) -> int:
        """Give about how many documents of a catalog there are for the user."""
        collection = await self.collection(catalog)
        common: dict[str, Any] = {"maxTimeMS": self.time(options), "comment": self.user.name}
        total = await collection.estimated_document_count(**common)  # takes no session
        guard = self.guards.get(collection.name)
        if guard is None:
            return total
        if total <= COUNTED:
            return await self.count(catalog, {}, CountOptions(max_time_ms=options.max_time_ms))
        drawn: list[Stage] = [{"$sample": {"size": SAMPLE}}, {"$match": dict(guard.match)}, {"$count": "count"}]
        cursor = await collection.aggregate_raw_batches(drawn, session=self.session_of(collection), **common)
        return round(total * await self._counted(cursor) / SAMPLE)

    async def _counted(self, cursor: RawCursor) -> int:
        return sum([bson.decode(batch)["count"] async for batch in reading.batches(cursor) if batch])

    def session_of(self, collection: AsyncCollection[Document]) -> AsyncClientSession | None:
        """Give the session, unless the collection is one of system documents, which have a client of their own."""
        if self.session is None or collection.database is not self.services.data:
            return None
        return self.session.get()

    def time(self, options: Options) -> int:
        """Milliseconds that are left to the query; it may send MongoDB several commands.

        Raises
        ------
        ExecutionTimeout
            If its time is over.
        """
        ceiling = min(options.max_time_ms or self.limits.max_time_ms, self.limits.max_time_ms)
        left = ceiling - int((time.monotonic() - self._started) * 1000)
        if left <= 0:
            raise ExecutionTimeout("operation exceeded time limit")
        return left

    def batches(self, cursor: RawCursor) -> AsyncGenerator[bytes]:
        """Read what a cursor finds, batch by batch; the end of the iteration ends the query."""
        return reading.batches(cursor)
