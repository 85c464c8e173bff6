"""Types that several requests share, and the envelopes of answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from kowalski.api.literals import decode_extended, parse_literal


class Request(BaseModel):
    """A request's body; keys that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class Success(BaseModel):
    """What every successful answer has."""

    status: Literal["success"]
    message: str


class Greeting(Success):
    """The answer to a ping."""


class Done(Success):
    """The answer to a change that has nothing to show."""


class Failure(BaseModel):
    """What every other answer is."""

    status: Literal["error"]
    message: str
    request_id: Annotated[str, Field(description="As in the header `X-Request-ID`, and in the log.")]


CatalogName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

Literally = BeforeValidator(parse_literal)
Extended = AfterValidator(decode_extended)

TEXT_NOTE = "Also accepted: a string that holds this as a Python literal. Extended JSON is decoded."

Filter = Annotated[dict[str, Any], Literally, Extended, Field(description=f"A MongoDB query. {TEXT_NOTE}")]
Projection = Annotated[
    dict[str, Any] | list[str] | None,
    Literally,
    Extended,
    Field(description=f"A MongoDB projection; expressions work. {TEXT_NOTE}"),
]
Pipeline = Annotated[
    list[dict[str, Any]], Literally, Extended, Field(description=f"Stages of an aggregation. {TEXT_NOTE}")
]
