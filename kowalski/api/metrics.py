"""What Prometheus can read of the API, at ``/metrics``.

Where several processes serve the API, each writes its figures into files of the folder that
``PROMETHEUS_MULTIPROC_DIR`` names, and whichever process is asked adds all of them up.
"""

from __future__ import annotations

import os

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from kowalski.api.hooks import FOLDER

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


def collect() -> bytes:
    """Write all figures in the text format of Prometheus; reads files where there are several processes."""
    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
