"""``/``, ``/healthz``, ``/readyz`` and ``/metrics``: whether anybody is there, and how they do."""

from __future__ import annotations

import asyncio

import pymongo
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from kowalski.api import addresses, answers, metrics, services
from kowalski.api.context import ADDRESS
from kowalski.api.errors import ForbiddenError
from kowalski.api.models.common import Greeting
from kowalski.api.routes import Access, Route

PATIENCE = 2.0
"""Seconds within which the database must answer for the API to count as ready."""


async def ping(request: web.Request) -> web.Response:
    """Greet whoever has a valid token."""
    return answers.success("greetings from Kowalski!")


async def healthy(request: web.Request) -> web.Response:
    """Say that the API answers."""
    return answers.success("healthy")


async def ready(request: web.Request) -> web.Response:
    """Say whether the API can do its work: its database lets it read, and there is a primary to write to."""
    work = services.of(request)
    with pymongo.timeout(PATIENCE):
        await work.data.command("ping")
        await work.system.command("ping")
    return answers.success("ready")


async def measured(request: web.Request) -> web.Response:
    """Give the figures for Prometheus."""
    work = services.of(request)
    if not addresses.is_among(request[ADDRESS], work.observers):
        raise ForbiddenError
    text = await asyncio.to_thread(metrics.collect, work.settings, work.observed)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTES = (
    Route(
        "GET",
        "/",
        ping,
        Access.USER,
        "service",
        "Check a token",
        response=Greeting,
        answer={"status": "success", "message": "greetings from Kowalski!"},
    ),
    Route("GET", "/healthz", healthy, Access.PUBLIC, "service", "Check that the API answers", response=Greeting),
    Route(
        "GET",
        "/readyz",
        ready,
        Access.PUBLIC,
        "service",
        "Check that the API can reach its database",
        response=Greeting,
        errors={503: "the database does not answer"},
    ),
    Route(
        "GET",
        "/metrics",
        measured,
        Access.PUBLIC,
        "service",
        "Figures for Prometheus",
        "For the addresses in `server.metrics_networks`.",
        produces={"text/plain": "Prometheus text format."},
        errors={403: "not from this address"},
    ),
)
