"""Reading the JSON body or the query string of a request into its model."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from kowalski.api.errors import InvalidRequestError, from_validation

Model = TypeVar("Model", bound=BaseModel)

LARGE = 64 * 1024
"""Bytes from which a body is parsed and validated in a thread."""


async def read(request: web.Request, model: type[Model]) -> Model:
    """Read and validate the body of a request.

    Raises
    ------
    InvalidRequestError
        If it is no JSON object, or not as the model says.
    """
    body = await request.read()
    if len(body) < LARGE:
        return _validate(body, model)
    return await asyncio.to_thread(_validate, body, model)


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Read and validate the query string of a request; a parameter that is repeated is a list.

    Raises
    ------
    InvalidRequestError
        If it is not as the model says.
    """
    given = request.query
    content = {name: values[0] if len(values := given.getall(name)) == 1 else values for name in given}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise from_validation(error) from error


def _validate(body: bytes, model: type[Model]) -> Model:
    content = _parse(body)
    if not isinstance(content, dict):
        raise InvalidRequestError("the body must be a JSON object")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise from_validation(error) from error


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # accepts NaN, which Python clients send
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error
