"""Parts of queries that several types share; what is of one type alone is in its module in `kowalski.api.queries`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kowalski.api.models.common import CatalogName, Filter, Projection, Request

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


class CatalogQuery(Request):
    """A query of one catalog."""

    catalog: CatalogName


class FilterBody(CatalogQuery):
    """Which documents of a catalog are meant."""

    filter: Filter

    @model_validator(mode="before")
    @classmethod
    def _has_filter(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("filter") is None:
            raise ValueError("Unsupported filter specification")
        return value


class FindBody(FilterBody):
    """What to find, where."""

    projection: Projection = None


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
