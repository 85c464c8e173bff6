"""Bodies of ``POST /api/queries``, one model per type of query."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, RootModel, model_validator

from kowalski.api.models.common import (
    CatalogName,
    Filter,
    Pipeline,
    Projection,
    Request,
    Success,
)

Unit = Literal["arcsec", "arcmin", "deg", "rad"]
UNITS: tuple[Unit, ...] = ("arcsec", "arcmin", "deg", "rad")


def _none_as_empty(value: Any) -> Any:
    return {} if value is None else value


def _check_unit(value: Any) -> Any:
    if value not in UNITS:
        raise ValueError(f"Angular units not in ({', '.join(UNITS)})")
    return value


def _check_time(value: Any) -> Any:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("max_time_ms must be int >= 1")
    return value


def _with_filter(value: Any) -> Any:
    if isinstance(value, dict) and value.get("filter") is None:
        raise ValueError("Unsupported filter specification")
    return value


def _pairs(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value


NoneAsEmpty = BeforeValidator(_none_as_empty)
AngularUnit = Annotated[Unit, BeforeValidator(_check_unit)]
SortKey = tuple[str, Literal[1, -1] | dict[str, Any]]
Sort = Annotated[
    list[SortKey] | None,
    BeforeValidator(_pairs),
    Field(description="List of `[field, 1 or -1]`, or an object."),
]
Count = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Hint = Annotated[
    str | list[tuple[str, int | str]] | None, BeforeValidator(_pairs), Field(description="Name or keys of an index.")
]


class Options(Request):
    """Options of any query; others (`save`, `_id`, `comment`) are ignored."""

    max_time_ms: Annotated[
        int | None,
        BeforeValidator(_check_time),
        Field(description="Time in the database, up to what the instance allows."),
    ] = None


class CountOptions(Options):
    """Options of a count."""

    skip: Count | None = None
    limit: Count | None = None
    hint: Hint = None


class FindOptions(CountOptions):
    """Options of whatever returns documents."""

    sort: Sort = None


class PositionOptions(FindOptions):
    """Options of a search around positions; they apply to each catalog and object."""

    filter_first: Annotated[bool, Field(description="Put the filter before the position in the query.")] = False


class AggregateOptions(Options):
    """Options of an aggregation."""

    allowDiskUse: bool = True
    batchSize: Annotated[int | None, Field(ge=1, le=100_000)] = None


class CatalogQuery(Request):
    """A query of one catalog."""

    catalog: CatalogName


class FindBody(CatalogQuery):
    """What to find, where."""

    filter: Filter
    projection: Projection = None

    @model_validator(mode="before")
    @classmethod
    def _has_filter(cls, value: Any) -> Any:
        return _with_filter(value)


class CountBody(CatalogQuery):
    """What to count, where."""

    filter: Filter

    @model_validator(mode="before")
    @classmethod
    def _has_filter(cls, value: Any) -> Any:
        return _with_filter(value)


class AggregateBody(CatalogQuery):
    """A pipeline and the catalog it starts from."""

    pipeline: Pipeline


class CatalogPart(Request):
    """What to take of one catalog in a search around positions."""

    filter: Annotated[Filter, NoneAsEmpty] = {}
    projection: Projection = None


Catalogs = Annotated[dict[CatalogName, Annotated[CatalogPart, NoneAsEmpty]], Field(min_length=1)]
Positions = Annotated[
    dict[str, Any] | list[Any] | str,
    Field(
        description=(
            '`{name: [ra, dec]}`, `[[ra, dec], …]`, either of them as a string with a Python literal, or `"ra dec"`. '
            "Right ascension and declination are in degrees, or texts such as `HH:MM:SS.s`, `DD:MM:SS.s` and "
            "`HHhMMmSS.Ss`, `DDdMMmSS.Ss`."
        )
    ),
]


class ObjectCoordinates(Request):
    """Positions and the radius around them."""

    radec: Positions
    cone_search_radius: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    cone_search_unit: AngularUnit


class ConeSearchBody(Request):
    """Everything within a radius around positions."""

    object_coordinates: ObjectCoordinates
    catalogs: Catalogs


class NearBody(Request):
    """Everything around positions, nearest first."""

    radec: Positions
    catalogs: Catalogs
    min_distance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_distance: Annotated[float | None, Field(gt=0, allow_inf_nan=False, description="Default: 1 arcmin.")] = None
    distance_units: AngularUnit = "rad"


class InfoBody(Request):
    """A question about catalogs."""

    command: Literal["catalog_names", "catalog_info", "index_info", "db_info"]
    catalog: CatalogName | None = None

    @model_validator(mode="after")
    def _has_catalog(self) -> InfoBody:
        if self.command in ("catalog_info", "index_info") and self.catalog is None:
            raise ValueError(f"{self.command} needs a catalog")
        return self


class DropBody(CatalogQuery):
    """The catalog to delete."""


class FindQuery(Request):
    """Documents that match a filter."""

    query_type: Literal["find"]
    query: FindBody
    kwargs: Annotated[FindOptions, NoneAsEmpty] = FindOptions()


class FindOneQuery(Request):
    """The first document that matches a filter."""

    query_type: Literal["find_one"]
    query: FindBody
    kwargs: Annotated[FindOptions, NoneAsEmpty] = FindOptions()


class CountQuery(Request):
    """How many documents match a filter."""

    query_type: Literal["count_documents"]
    query: CountBody
    kwargs: Annotated[CountOptions, NoneAsEmpty] = CountOptions()


class EstimatedCountQuery(Request):
    """How many documents a catalog holds."""

    query_type: Literal["estimated_document_count"]
    query: CatalogQuery
    kwargs: Annotated[Options, NoneAsEmpty] = Options()


class AggregateQuery(Request):
    """What a pipeline makes of a catalog."""

    query_type: Literal["aggregate"]
    query: AggregateBody
    kwargs: Annotated[AggregateOptions, NoneAsEmpty] = AggregateOptions()


class ConeSearchQuery(Request):
    """Documents within a radius around positions."""

    query_type: Literal["cone_search"]
    query: ConeSearchBody
    kwargs: Annotated[PositionOptions, NoneAsEmpty] = PositionOptions()


class NearQuery(Request):
    """Documents around positions, nearest first."""

    query_type: Literal["near"]
    query: NearBody
    kwargs: Annotated[PositionOptions, NoneAsEmpty] = PositionOptions()


class InfoQuery(Request):
    """What catalogs and indexes there are."""

    query_type: Literal["info"]
    query: InfoBody
    kwargs: Annotated[Options, NoneAsEmpty] = Options()


class DropQuery(Request):
    """Delete a catalog; for the administrator."""

    query_type: Literal["drop"]
    query: DropBody
    kwargs: Annotated[Options, NoneAsEmpty] = Options()


AnyQuery = (
    FindQuery
    | FindOneQuery
    | CountQuery
    | EstimatedCountQuery
    | AggregateQuery
    | ConeSearchQuery
    | NearQuery
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
                "find, aggregate: list of documents; find_one: a document; counts: a number; cone_search, near: "
                "`{catalog: {object: [documents]}}`, dots in names of objects become `_`; info: names or statistics."
            )
        ),
    ] = None
