#!/usr/bin/env python3
"""How many requests the API answers, how fast, and what a large answer does to everybody else.

Starts its own MongoDB, fills it, and runs the API and, beside it, a naive worker (`benchmarks.naive`) on the same
database. The same requests go to both in turns; printed are requests per second, p50 and p99, CPU-ms of the workers per
request, and the ratio of the two. Then: the worst ping during a large answer and during logins, and the memory of a
worker during an answer of 1 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import numpy as np
import orjson
import psutil

from benchmarks import accounting, load, seeding
from benchmarks.load import Connection, Request
from kowalski.archive import client as archive
from kowalski.config import Settings
from kowalski.runtime import programs
from kowalski.testing import services

NO_STAMPS = {"cutoutScience": 0, "cutoutTemplate": 0, "cutoutDifference": 0}
THIN = {"_id": 0, "candid": 1, "objectId": 1, "candidate.jd": 1}
ALERTS = "ZTF_alerts"
CATALOG = "Gaia_EDR3"
GIGABYTE = 10**9
BESIDE = "beside a large answer"
"""What pings and memory are measured under, for ``--only``."""


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one kind: so many per turn, from so many clients."""

    name: str
    bodies: Sequence[Any]
    clients: int = 1


@dataclass(slots=True)
class Outcome:
    """What one side made of a case.

    Attributes
    ----------
    cpu
        CPU seconds of the workers, of MongoDB and of the client.
    """

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: Any = 0.0

    @property
    def milliseconds(self) -> Any:
        """CPU-ms of workers, MongoDB and client per request."""
        return 1000.0 * self.cpu / len(self.seconds)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers."""

    name: str
    process: services.Process
    url: str
    mongod: psutil.Process

    def workers(self) -> list[psutil.Process]:
        """Processes that answer."""
        return psutil.Process(self.process.pid).children()

    def cpu(self) -> Any:
        """CPU seconds that the workers, MongoDB and this client have taken so far."""
        workers = sum(sum(worker.cpu_times()[:2]) for worker in self.workers())
        return np.array([workers, sum(self.mongod.cpu_times()[:2]), time.process_time()])

    def memory(self) -> float:
        """Resident memory of the largest worker, in MB."""
        return max(worker.memory_info().rss for worker in self.workers()) / 1e6


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each of the four catalogs")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--only", default="", help="pattern of the names of the cases to measure")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kowalski-benchmark")
    parser.add_argument("--cache-gb", type=float, default=4.0, help="MongoDB's cache")
    parser.add_argument("--folder", type=Path, help="where MongoDB keeps its files (default: the temporary folder)")
    return parser.parse_args()


def find(condition: Any, projection: Any, limit: int = 0) -> Any:
    """Body of a ``find``."""
    query = {"catalog": ALERTS, "filter": condition, "projection": projection}
    return {"query_type": "find", "query": query, "kwargs": {"limit": limit}}


def around(kind: str, catalog: str, places: Sequence[Sequence[float]]) -> Any:
    """Body of a search within 2 arcsec around positions."""
    radec = {f"object{number}": list(place) for number, place in enumerate(places)}
    catalogs = {catalog: {"projection": {"_id": 1}}}
    if kind == "near":
        return {
            "query_type": kind,
            "query": {"radec": radec, "catalogs": catalogs, "max_distance": 2, "distance_units": "arcsec"},
        }
    coordinates = {"radec": radec, "cone_search_radius": 2, "cone_search_unit": "arcsec"}
    return {"query_type": kind, "query": {"object_coordinates": coordinates, "catalogs": catalogs}}


def cases(places: list[list[float]]) -> Iterator[Case]:
    """Everything that is measured side by side."""
    rng = random.Random(5)

    def some(count: int) -> list[list[float]]:
        return rng.sample(places, min(count, len(places)))

    def one() -> Any:
        return find({"candid": seeding.FIRST + rng.randrange(len(places))}, NO_STAMPS)

    for clients, count in ((1, 100), (64, 640)):
        yield Case("ping", [None] * count, clients)
        yield Case("find one candid, no stamps", [one() for _ in range(count)], clients)
        yield Case("cone search, 1 object", [around("cone_search", ALERTS, some(1)) for _ in range(count)], clients)
    for catalog in (ALERTS, CATALOG):
        yield Case(f"cone search, 1000 objects, {catalog}", [around("cone_search", catalog, some(1000))])
        yield Case(f"cone search, 5000 objects, {catalog}", [around("cone_search", catalog, some(5000))])
        yield Case(f"near, 1000 objects, {catalog}", [around("near", catalog, some(1000))])
    yield Case("find 10000, no stamps", [find({}, NO_STAMPS, 10_000)])
    yield Case("find 20000 thin rows", [find({}, THIN, 20_000)])
    yield Case("find 100 with stamps", [find({}, None, 100)])


@contextmanager
def sides(settings: Settings, mongod: psutil.Process, workers: int) -> Iterator[list[Side]]:
    """Run both servers with so many workers."""
    environment = services.environment(settings)
    settings.server.processes = workers
    (port,) = services.free_ports(1)
    ours = programs.api(settings)
    naive = [sys.executable, "-m", "gunicorn", "benchmarks.naive:create_app()", "--bind", f"127.0.0.1:{port}"]
    naive += ["--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--workers", str(workers), "--timeout", "600"]
    naive += ["--no-control-socket"]
    logs = settings.path.run / "logs"
    api = services.Process("api", list(ours.command), {**ours.environment, **environment}, logs / "api.log")
    other = services.Process("naive", naive, environment, logs / "naive.log")
    started = [
        Side("naive", other, f"http://127.0.0.1:{port}", mongod),
        Side("API", api, f"http://127.0.0.1:{settings.server.port}", mongod),
    ]
    try:
        for side in started:
            side.process.start()
            _await(side)
        yield started
    finally:
        for side in started:
            side.process.stop(20)


def _await(side: Side) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(side.url)
        except httpx.HTTPError:
            side.process.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"{side.name} does not start; see {side.process.log}") from None
            time.sleep(0.2)
        else:
            return


async def compare(case: Case, both: Sequence[Side], token: str, rounds: int) -> None:
    """Measure a case on both sides in turns, and print it."""
    outcomes = {side.name: Outcome() for side in both}
    for turn in range(-1, rounds):
        for side in both if turn % 2 else reversed(both):
            requests = [_request(side, body, token) for body in case.bodies]
            before = side.cpu()
            total, seconds = await load.run(requests if turn >= 0 else requests[:64], case.clients)
            if turn < 0:
                continue  # caches fill
            outcome = outcomes[side.name]
            outcome.rates.append(len(seconds) / total)
            outcome.seconds += seconds
            outcome.cpu += side.cpu() - before
    for name, outcome in outcomes.items():
        cuts = statistics.quantiles(outcome.seconds, n=100, method="inclusive")
        print(
            f"{case.name:<40} {case.clients:>3} {name:<6} {statistics.median(outcome.rates):9.2f} req/s  "
            f"p50 {1e3 * cuts[49]:8.1f}  p99 {1e3 * cuts[98]:8.1f} ms  CPU-ms of workers, MongoDB, client: "
            + ", ".join(f"{part:.2f}" for part in outcome.milliseconds)
        )
    naive, ours = outcomes["naive"], outcomes["API"]
    ratio = statistics.median(b / a for a, b in zip(naive.rates, ours.rates, strict=True))
    print(f"{'':<40} {'':>3} ratio  {ratio:9.2f}  CPU {naive.milliseconds[0] / ours.milliseconds[0]:.2f}", flush=True)


def _request(side: Side, body: Any, token: str) -> Request:
    return Request.make(f"{side.url}/api/queries" if body is not None else f"{side.url}/", token, body)


async def pings(side: Side, token: str, busy: Any) -> list[float]:
    """Ping as long as ``busy()``, fifty times a second; gives sorted seconds."""
    request = _request(side, None, token)
    connection = await Connection.open(request)
    seconds = []
    while busy():
        start = time.perf_counter()
        await connection.send(request)
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(0.02)
    connection.close()
    return sorted(seconds)


async def disturbed(side: Side, token: str, what: str, body: Any, path: str = "/api/queries", times: int = 1) -> None:
    """Print how pings fare while another process asks for something large."""
    script = "import asyncio, sys; from benchmarks.load import run, Request; import orjson\n"
    script += "url, token, body, times = sys.argv[1:]; r = Request.make(url, token, orjson.loads(body))\n"
    script += "asyncio.run(run([r] * int(times), int(times)))"
    command = [sys.executable, "-c", script, side.url + path, token, orjson.dumps(body).decode(), str(times)]
    until = time.monotonic() + 2.0
    quiet = await pings(side, token, lambda: time.monotonic() < until)
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent) as child:
        start, most = time.monotonic(), 0.0
        before = side.memory()

        def busy() -> bool:
            nonlocal most
            most = max(most, side.memory())
            return child.poll() is None

        found = await pings(side, token, busy)
        seconds = time.monotonic() - start
    if child.returncode:
        raise SystemExit(f"{what} failed")
    p99 = found[int(0.99 * len(found))]
    print(
        f"{what:<40} {side.name:<6} worst ping {1e3 * found[-1]:7.1f} ms, p99 {1e3 * p99:.1f} (without it "
        f"{1e3 * quiet[-1]:.1f}); {seconds:.1f} s; RSS {before:.0f} -> at most {most:.0f} MB",
        flush=True,
    )


async def measure(
    settings: Settings, mongod: psutil.Process, places: list[list[float]], options: argparse.Namespace
) -> None:
    """Measure everything."""
    for workers in options.workers:
        print(f"\n{workers} worker(s)", flush=True)
        with sides(settings, mongod, workers) as both:
            _, ours = both
            login = {"username": settings.server.admin_username, "password": settings.server.admin_password}
            token = httpx.post(f"{ours.url}/api/auth", json=login).json()["token"]
            for case in cases(places):
                # One client's requests go to one worker at a time, however many there are.
                if re.search(options.only, case.name) and (workers == 1 or case.clients > 1):
                    await compare(case, both, token, options.rounds)
            if workers > 1 or not re.search(options.only, BESIDE):
                continue
            large = find({}, NO_STAMPS, 10_000)
            for side in both:
                await disturbed(side, token, "find 10000, no stamps", large)
            await disturbed(ours, token, "ten logins", login, "/api/auth", 10)
            size = archive.data_database(archive.connect(settings), settings).command("collstats", ALERTS)["avgObjSize"]
            count = min(len(places), int(GIGABYTE / (1.34 * size)))
            for _ in range(2):
                await disturbed(ours, token, f"find {count} with stamps, 1 GB", find({}, None, count))
            for side in both:
                print(f"RSS of a worker at the end: {side.name} {side.memory():.0f} MB")


def calibrate() -> None:
    """Print what the machine is like at the moment."""
    print(f"calibration loop: {accounting.calibrate():.2f} CPU-s; load {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    """Run the benchmark that the command line asks for."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kowalski-benchmark-", dir=options.folder) as folder:
        settings = services.new_settings(Path(folder) / "run", database={"cache_gb": options.cache_gb})
        with services.running(settings, mongod=True) as servers:
            data = archive.data_database(archive.connect(settings), settings)
            places = seeding.seed(data, settings, options.cache, options.alerts, options.rows)
            print(
                f"{options.alerts} alerts; calibration loop: {accounting.calibrate():.2f} CPU-s; load {os.getloadavg()}"
            )
            assert servers.mongod is not None
            asyncio.run(measure(settings, psutil.Process(servers.mongod.pid), places, options))
            print(f"calibration loop: {accounting.calibrate():.2f} CPU-s; load {os.getloadavg()}")


if __name__ == "__main__":
    main()
