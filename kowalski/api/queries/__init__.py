"""Queries of the archive: each type is one module with a model of its request, which is entered here."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Field, RootModel, model_validator

from kowalski.api.models.common import Success
from kowalski.api.queries.aggregate import AggregateQuery
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.queries.cone_search import ConeSearchQuery
from kowalski.api.queries.count_documents import CountQuery
from kowalski.api.queries.drop import DropQuery
from kowalski.api.queries.estimated_document_count import EstimatedCountQuery
from kowalski.api.queries.find import FindQuery
from kowalski.api.queries.find_one import FindOneQuery
from kowalski.api.queries.info import InfoQuery
from kowalski.api.queries.near import NearQuery
from kowalski.api.queries.skymap import SkymapQuery

__all__ = ["QUERY_TYPES", "Archive", "ArchiveQuery", "DropQuery", "Query", "QueryAnswer"]

AnyQuery = (
    FindQuery
    | FindOneQuery
    | CountQuery
    | EstimatedCountQuery
    | AggregateQuery
    | ConeSearchQuery
    | NearQuery
    | SkymapQuery
    | InfoQuery
    | DropQuery
)
QUERY_TYPES: tuple[str, ...] = tuple(
    get_args(model.model_fields["query_type"].annotation)[0] for model in get_args(AnyQuery)
)


class Query(RootModel[Annotated[AnyQuery, Field(discriminator="query_type")]]):
    """A query of any type."""

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        kind = value.get("query_type") if isinstance(value, dict) else None
        if kind not in QUERY_TYPES:
            raise ValueError(f"query_type {kind} not in ({', '.join(QUERY_TYPES)})")
        return value


class QueryAnswer(Success):
    """The answer to a query; `data` is missing if `find_one` finds nothing, and after `drop`."""

    data: Annotated[
        list[dict[str, Any]] | dict[str, Any] | list[str] | int | None,
        Field(
            description=(
                "find, skymap, aggregate: list of documents; find_one: a document; counts: a number; "
                "cone_search, near: `{catalog: {object: [documents]}}`, dots in names of objects become `_`; "
                "info: names or statistics."
            )
        ),
    ] = None
