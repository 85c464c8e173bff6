"""The API's description (OpenAPI 3.1), built from the table of routes and from the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from kowalski import __version__
from kowalski.api.models.common import Failure
from kowalski.api.routes import Access, Route
from kowalski.config.settings import Server

JSON = "application/json"
REFERENCE = "#/components/schemas/{model}"
BODY_ERRORS = {400: "the request is not as it must be; the message says why", 413: "the request is too large"}
ACCESS_ERRORS = {
    Access.PUBLIC: {},
    Access.USER: {401: "there is no valid token", 503: "the database is not available; see `Retry-After`"},
    Access.ADMIN: {
        401: "there is no valid token",
        403: "the user is no administrator",
        503: "the database is not available; see `Retry-After`",
    },
}

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
    return operation


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
    content = {media: {"schema": {"description": text}} for media, text in route.produces.items()}
    if route.response is not None:
        content = _json(route.response.__name__) | content
    if content:
        success["content"] = content
    common = BODY_ERRORS if route.request is not None else {}
    errors = {**common, **ACCESS_ERRORS[route.access], **route.errors}
    failures = {
        str(status): {"description": reason, "content": _json(route.refusals.get(status, Failure).__name__)}
        for status, reason in sorted(errors.items())
    }
    return {"200": success, **failures}


def _json(model: str) -> Schema:
    return {JSON: {"schema": {"$ref": REFERENCE.format(model=model)}}}


def _path(route: Route) -> str:
    """The path without the patterns of its parameters."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", route.path)
