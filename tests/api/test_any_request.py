"""Whatever is sent that fits the API's description, and much that does not: no server error, and no undescribed answer.

The requests are made by schemathesis from the description, and sent to a running server.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kowalski.api import openapi
from kowalski.api.app import ROUTES
from kowalski.config.serving import Server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def token(served: Any) -> str:
    return str(served.token())


DESCRIPTION = openapi.describe(ROUTES, Server())
QUERIES = "/api/queries"
MEDIA = tuple(DESCRIPTION["paths"][QUERIES]["post"]["responses"]["200"]["content"])

schemathesis.serializer.alias("application/vnd.apache.parquet", "application/octet-stream")
every = schemathesis.openapi.from_dict(DESCRIPTION)
# Queries have so many options that their edge cases alone, each of them once, would be thousands.
at_random = schemathesis.openapi.from_dict(
    DESCRIPTION, config=SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": False}}})
)


def bounded(examples: int) -> settings:
    unhurried = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=unhurried
    )


@every.exclude(path=QUERIES).parametrize()
@bounded(5)
def test_every_operation(case: Case, served: Any, token: str) -> None:
    case.call_and_validate(served.url, headers={"Authorization": token}, checks=CHECKS, timeout=60)


@at_random.include(path=QUERIES).parametrize()
@bounded(80)
def test_queries(case: Case, served: Any, token: str) -> None:
    case.call_and_validate(served.url, headers={"Authorization": token}, checks=CHECKS, timeout=60)


@at_random.include(path=QUERIES).parametrize()
@bounded(20)
def test_streamed_answers_in_every_format(case: Case, served: Any, token: str) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(query := body.get("query"), dict) and "catalog" in query and body.get("query_type") != "drop":
        case.body = {**body, "query": {**query, "catalog": "ZTF_alerts"}}  # where there is something to send
    for media in MEDIA:
        headers = {"Authorization": token, "Accept": media}
        case.call_and_validate(served.url, headers=headers, checks=[not_a_server_error], timeout=60)
