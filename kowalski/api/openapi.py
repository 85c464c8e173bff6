"""The API's description (OpenAPI 3.1), built from the table of routes and from the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from kowalski import __version__
from kowalski.api.models.common import Failure
from kowalski.api.routes import Access, Route
from kowalski.config.serving import Server

JSON = "application/json"
REFERENCE = "#/components/schemas/{model}"
UNAVAILABLE = "the database is not available; see `Retry-After`"
ALWAYS = {500: "a fault of the server; its log tells more, by `request_id`"}
WITH_INPUT = {400: "the request is not as it must be; the message says why", 413: "the request is too large"}
WITH_TOKEN = {
    400: "the request is not as it must be, or the token is not valid; the message says why",
    401: "there is no token, or its user is gone or has another password now",
    429: "the user asks too often; see `Retry-After`",
    503: UNAVAILABLE,
}
FOR_ADMINS = WITH_TOKEN | {403: "the user is no administrator"}
ACCESS_ERRORS = {Access.PUBLIC: {}, Access.USER: WITH_TOKEN, Access.ADMIN: FOR_ADMINS}
MESSAGES = {
    400: "ValidationError: query.filter: Field required",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
    429: "more than 600 requests in a minute; try again in 17 s",
    500: "Internal Server Error",
    503: "the database is not available",
}
"""What errors say, as examples; where there is none, the reason from the route's table."""
EXAMPLE_ID = "9f1c6d0e2b7a4c35"

Schema = dict[str, Any]


def describe(routes: Iterable[Route], server: Server) -> Schema:
    """Build the description of ``routes``."""
    routes = list(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route)
    contact = {name: value for name, value in server.contact.model_dump().items() if value is not None}
    info: Schema = {"title": server.name, "version": __version__, "description": DESCRIPTION}
    return {
        "openapi": "3.1.0",
        "info": info | ({"contact": contact} if contact else {}),
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "Authorization"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


DESCRIPTION = (
    "Archive and alert broker for time-domain astronomy. Log in at `/api/auth`; send the token as `Authorization`. "
    "Answers are JSON objects with `status`, `message` and, where there are any, `data` in relaxed Extended JSON."
)


def _schemas(routes: Iterable[Route]) -> Schema:
    used = {model for route in routes for model in (route.request, route.response) if model is not None}
    used |= {Failure, *(model for route in routes for model in route.refusals.values())}
    ordered = sorted(used, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=REFERENCE)
    return dict(definitions["$defs"])


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": f"{route.tag}_{getattr(route.handler, '__name__', route.method)}",
        "responses": _responses(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.access is not Access.PUBLIC:
        operation["security"] = [{"token": []}, {"bearer": []}]
    if route.parameters or route.query is not None:
        operation["parameters"] = [*_of_path(route), *_of_query(route)]
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": _json(route.request.__name__)}
        if route.examples:
            examples = {name: {"value": value} for name, value in route.examples.items()}
            operation["requestBody"]["content"][JSON]["examples"] = examples
    if route.consumes:
        operation["requestBody"] = {"required": True, "content": _files(route)}
    return operation


def _files(route: Route) -> Schema:
    file = {"type": "string", "format": "binary"}
    return {
        media: {"schema": file, **({"example": example} if example else {})}
        for media, example in route.consumes.items()
    }


def _of_path(route: Route) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in route.parameters.items()
    ]


def _of_query(route: Route) -> list[Schema]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=REFERENCE)
    required = schema.get("required", [])
    parameters = []
    for name, described in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": name in required, "schema": described}
        if "description" in described:
            parameter["description"] = described.pop("description")
        parameters.append(parameter)
    return parameters


def _responses(route: Route) -> Schema:
    success: Schema = {"description": "success"}
    content: Schema = {media: {"schema": {"description": text}} for media, text in route.produces.items()}
    if route.response is not None:
        example = {"status": "success", "message": "success"} if route.answer is None else route.answer
        content = _json(route.response.__name__, example) | content
    if content:
        success["content"] = content
    takes_input = route.request is not None or route.query is not None or bool(route.parameters or route.consumes)
    errors = {**ALWAYS, **(WITH_INPUT if takes_input else {}), **ACCESS_ERRORS[route.access]}
    if _path(route) != route.path:
        errors[404] = "a part of the path has another form"
    errors |= route.errors
    return {"200": success} | {str(status): _refusal(route, status, errors[status]) for status in sorted(errors)}


def _refusal(route: Route, status: int, reason: str) -> Schema:
    model = route.refusals.get(status)
    if model is not None:
        return {"description": reason, "content": _json(model.__name__)}
    example = {"status": "error", "message": MESSAGES.get(status, reason), "request_id": EXAMPLE_ID}
    return {"description": reason, "content": _json(Failure.__name__, example)}


def _json(model: str, example: Any = None) -> Schema:
    content: Schema = {"schema": {"$ref": REFERENCE.format(model=model)}}
    return {JSON: content if example is None else {**content, "example": example}}


def _path(route: Route) -> str:
    """The path without the patterns of its parameters."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", route.path)
