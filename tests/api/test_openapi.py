"""The API's description is valid, complete and true, and can be read without a network."""

from __future__ import annotations

import re
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from kowalski.api import openapi
from kowalski.api.app import ROUTES
from kowalski.api.routes import Access
from kowalski.config.settings import Server


def test_the_description_is_valid_openapi_3_1() -> None:
    description = openapi.describe(ROUTES, Server(contact={"name": "Vera", "email": "vera@example.org"}))
    assert description["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(description).validate()
    assert description["info"]["contact"]["name"] == "Vera"


async def test_every_route_is_described(nobody: Any) -> None:
    _, description = await nobody("GET", "/docs/api/swagger.json")
    described = {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}
    served = {(route.method, route.resource.canonical) for route in nobody.http.app.router.routes() if route.resource}
    assert served - described == {("GET", "/docs/api")}  # it only leads to the page
    assert described <= served


async def test_who_may_is_described_truly(nobody: Any) -> None:
    for route in ROUTES:
        path = re.sub(r"\{\w+(:[^/]+)?\}", "1", route.path)
        async with nobody.http.request(route.method, path) as answer:
            assert (answer.status == 401) == (route.access is not Access.PUBLIC), route


async def test_the_page_needs_nothing_from_elsewhere(nobody: Any) -> None:
    async with nobody.http.get("/docs/api", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/docs/api/")
    async with nobody.http.get("/docs/api/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
    assert not re.search(r"""(src|href)=['"](https?:)?//""", text)
    for route in ROUTES:
        assert re.sub(r"\{(\w+):.*\}", r"{\1}", route.path) in text
