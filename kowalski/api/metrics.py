"""What Prometheus can read at ``/metrics``: the figures of the API, and those of the whole instance.

Where several processes serve the API, each writes its figures into files of the folder that
``PROMETHEUS_MULTIPROC_DIR`` names, and whichever process is asked adds all of them up.
"""

from __future__ import annotations

import os

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pymongo import MongoClient

from kowalski.api.hooks import FOLDER
from kowalski.archive.client import Document, system_database
from kowalski.config import Settings
from kowalski.monitoring import gathered

BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)

REQUESTS = Counter("kowalski_api_requests", "Requests that were answered.", ("method", "route", "status"))
SECONDS = Histogram("kowalski_api_request_seconds", "From request to answer.", ("method", "route"), buckets=BUCKETS)
ACTIVE = Gauge("kowalski_api_requests_active", "Requests being answered.", multiprocess_mode="livesum")


def observe(request: web.Request, status: int, seconds: float) -> None:
    """Count a request that was answered; paths that are no routes count together."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    REQUESTS.labels(request.method, route, str(status)).inc()
    SECONDS.labels(request.method, route).observe(seconds)


def collect(settings: Settings, connection: MongoClient[Document]) -> bytes:
    """Write all figures in the text format of Prometheus; asks databases and Kafka, and reads files."""
    return own() + gathered.text(gathered.gather(settings, system_database(connection, settings)))


def own() -> bytes:
    """Write the figures of the API; reads files where there are several processes."""
    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
