"""The API's description is valid, complete and true, and can be read without a network."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kowalski.api import openapi
from kowalski.api.app import ROUTES
from kowalski.api.models import examples
from kowalski.api.models.common import Failure
from kowalski.api.queries import QUERY_TYPES
from kowalski.api.routes import Access, Route
from kowalski.config.serving import Server

DESCRIPTION = openapi.describe(ROUTES, Server())
NAMES = [f"{route.method} {route.path}" for route in ROUTES]


def described(path: str) -> str:
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", path)


def test_the_description_is_valid_openapi_3_1() -> None:
    description = openapi.describe(ROUTES, Server(contact={"name": "Vera", "email": "vera@example.org"}))
    assert description["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(description).validate()
    assert description["info"]["contact"]["name"] == "Vera"


async def test_every_route_is_described(nobody: Any) -> None:
    _, description = await nobody("GET", "/docs/api/swagger.json")
    described = {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}
    served = {(route.method, route.resource.canonical) for route in nobody.http.app.router.routes() if route.resource}
    lead_to_a_page = {("GET", "/docs/api"), ("GET", "/status")}
    forms = {("GET", "/status/login"), ("POST", "/status/login"), ("POST", "/status/logout")}  # of a page, for people
    assert served - described == lead_to_a_page | forms
    assert described <= served


async def test_who_may_is_described_truly(nobody: Any) -> None:
    for route in ROUTES:
        path = re.sub(r"\{\w+(:[^/]+)?\}", "1", route.path)
        async with nobody.http.request(route.method, path) as answer:
            assert (answer.status == 401) == (route.access is not Access.PUBLIC), route


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_every_part_of_a_route_is_described(route: Route) -> None:
    operation = DESCRIPTION["paths"][described(route.path)][route.method.lower()]
    assert {parameter["name"] for parameter in operation.get("parameters", [])} >= set(
        re.findall(r"\{(\w+)", described(route.path))
    )
    assert bool(route.request or route.consumes) == ("requestBody" in operation)
    for status, answer in operation["responses"].items():
        (content,) = answer["content"].values() if status != "200" else list(answer["content"].values())[:1]
        assert answer["description"]
        if "$ref" in content["schema"]:
            model = content["schema"]["$ref"].rpartition("/")[2]
            assert model in DESCRIPTION["components"]["schemas"]
        if int(status) >= 400 and int(status) not in route.refusals:
            Failure.model_validate(content["example"])


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.request], ids=lambda route: f"{route.method} {route.path}"
)
def test_every_request_has_examples_that_fit_its_model(route: Route) -> None:
    assert route.examples
    for example in route.examples.values():
        route.request.model_validate(example)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.answer], ids=lambda route: f"{route.method} {route.path}"
)
def test_every_example_of_an_answer_fits_its_model(route: Route) -> None:
    assert route.response is not None
    route.response.model_validate(route.answer)


def test_every_type_of_query_has_an_example() -> None:
    assert {example["query_type"] for example in examples.QUERIES.values()} == set(QUERY_TYPES)


async def test_the_examples_are_accepted(admin: Any) -> None:
    for method, path, where in (
        ("POST", "/api/users", ""),
        ("POST", "/api/auth", ""),
        ("PUT", "/api/users/{username}", "vera"),
        ("POST", "/api/filters", ""),
        ("PATCH", "/api/filters", ""),
        ("POST", "/api/filters/{filter_id}/test", "1"),
        ("POST", "/api/filters/{filter_id}/dryrun", "1"),
        ("PUT", "/api/skymap", ""),
        ("POST", "/api/queries", ""),
        ("DELETE", "/api/skymap", ""),
    ):
        (route,) = (route for route in ROUTES if (route.method, described(route.path)) == (method, path))
        for name, body in route.examples.items():
            status, answer = await admin(method, re.sub(r"\{\w+\}", where, path), body)
            assert status == 200, (path, name, answer)


async def test_the_example_of_a_table_is_accepted(admin: Any) -> None:
    for route in ROUTES:
        for media, example in route.consumes.items():
            if example:
                headers = {"Authorization": admin.token, "Content-Type": media}
                wanted = {"catalog": "Gaia_EDR3", "radius": 2, "id": "name"}
                async with admin.http.request(
                    route.method, route.path, params=wanted, data=example.encode(), headers=headers
                ) as answer:
                    assert answer.status == 200, await answer.text()
    assert any(route.consumes for route in ROUTES)


async def test_the_page_needs_nothing_from_elsewhere(nobody: Any) -> None:
    async with nobody.http.get("/docs/api", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/docs/api/")
    async with nobody.http.get("/docs/api/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
        policy = dict(part.split(maxsplit=1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    assert {word for part in policy.values() for word in part.split()} <= {"'self'", "'unsafe-inline'", "data:"}
    files = re.findall(r"""(?:src|href)="([^"]*)\"""", text)
    assert len(files) == 5
    for file in files:
        async with nobody.http.get(f"/docs/api/{file}") as answer:
            assert answer.status == 200, file
            assert len(await answer.read()) > 100, file
    async with nobody.http.get("/docs/api/static/swagger-editor.css") as answer:
        assert answer.status == 404
