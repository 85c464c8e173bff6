"""What a campaign happens on: an instance, SkyPortal's stand-in, and the ways between them that can be cut."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pymongo import MongoClient

from kowalski.archive.client import Document, connect, data_database
from kowalski.config import Settings, load
from kowalski.runtime.supervisor import Process, Supervisor
from kowalski.surveys import SURVEYS, get
from kowalski.surveys.base import Survey
from kowalski.testing import services
from kowalski.testing.faults import checker
from kowalski.testing.faults.night import Places
from kowalski.testing.faults.proxy import Proxy
from kowalski.testing.faults.shim import Shim
from kowalski.testing.instance import Instance
from kowalski.testing.instance import running as running_instance
from kowalski.testing.skyportal.process import Standin

FIRST_FILTER = 77

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stage:
    """Everything that faults happen to.

    Attributes
    ----------
    ways
        Proxies by a name that says who is on either side.
    shim
        Moves the clocks of processes and leads them through proxies; None where it can't be made.
    disk
        A small file system of its own that holds all that the instance writes; None where none may be mounted.
    client
        Reads MongoDB for the checker.
    """

    instance: Instance
    surveys: list[Survey]
    portal: Standin
    ways: dict[str, Proxy]
    shim: Shim | None
    disk: Path | None
    client: MongoClient[Document]
    settings: Settings
    filters: dict[str, int] = field(default_factory=dict)

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor of the instance."""
        return Supervisor(self.settings)

    def processes(self) -> list[Process]:
        """List what runs."""
        return [process for process in self.supervisor.processes() if process.pid]

    def up(self) -> None:
        """Bring the instance up, as an operator does after the supervisor died."""
        self.instance.cli("up")

    def prepare(self, every: int) -> None:
        """Give each survey a filter that passes one alert in ``every``."""
        for number, survey in enumerate(self.surveys, FIRST_FILTER):
            self.add_filter(survey, number, checker.pipeline(every))
            self.filters[survey.name] = number

    def add_filter(self, survey: Survey, number: int, stages: Sequence[Mapping[str, Any]]) -> None:
        """Add a filter, through the API as users do."""
        body = {"filter_id": number, "group_id": checker.GROUP, "catalog": survey.alerts}
        body |= {"permissions": [1, 2, 3], "pipeline": list(stages)}
        url, headers = f"{self.instance.url}/api/filters", {"Authorization": self._log_in()}
        httpx.post(url, json=body, headers=headers, timeout=30).raise_for_status()

    def put_sources(self, places: Sequence[Places]) -> None:
        """Put a catalog source at the place of every object, so that each must have its match."""
        rows = [
            {"_id": f"{one.survey.name}:{name}", "coordinates": {"radec_geojson": _point(ra, dec)}}
            for one in places
            for name, (ra, dec) in one.objects.items()
        ]
        catalog = data_database(self.client, self.settings)[checker.CATALOG]
        known = {found["_id"] for found in catalog.find({}, {"_id": 1})}
        fresh = [row for row in rows if row["_id"] not in known]
        if fresh:
            catalog.insert_many(fresh)

    def _log_in(self) -> str:
        server = self.settings.server
        login = {"username": server.admin_username, "password": server.admin_password}
        answer = httpx.post(f"{self.instance.url}/api/auth", json=login, timeout=30)
        return str(answer.raise_for_status().json()["token"])


def choose(names: Sequence[str]) -> list[Survey]:
    """Find the surveys of a campaign; none named: every second one that can be simulated, for processes cost time."""
    return [get(name) for name in names] or [survey for survey in SURVEYS.values() if survey.simulator][::2]


@contextmanager
def running(
    folder: Path, surveys: Sequence[Survey], *, disk_mb: int = 1500, cuts: bool = True, every: int = checker.EVERY
) -> Iterator[Stage]:
    """Run everything below ``folder`` until the block ends.

    Parameters
    ----------
    disk_mb
        Size of the file system that is made for the instance, where that is allowed; 0: none is made.
    cuts
        Whether there are proxies, through which all goes then.
    every
        The filters pass one alert in so many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        run = folder / "run"
        disk = stack.enter_context(_small_disk(run, disk_mb)) if disk_mb else None
        portal = Standin(folder)
        stack.callback(portal.process.stop, 5.0)
        portal.start()
        ports = Ports(*services.free_ports(len(Ports._fields)))
        shim = _shim(folder / "shim") if cuts else None
        ways: dict[str, Proxy] = {}
        environment: dict[str, str] = {}
        if cuts:
            ways["courier - SkyPortal"] = stack.enter_context(Proxy(ports.portal_way, portal.port))
            ways["brokers - scheduler"] = stack.enter_context(Proxy(ports.scheduler_way, ports.scheduler))
        else:
            ports = ports._replace(portal_way=portal.port, scheduler_way=ports.scheduler)
        if shim is not None:
            ways["programs - MongoDB"] = stack.enter_context(Proxy(ports.mongod_way, ports.mongod))
            ways["programs - Kafka"] = stack.enter_context(Proxy(ports.kafka_way, ports.kafka))
            environment = shim.environment({ports.mongod: ports.mongod_way, ports.kafka: ports.kafka_way})
        sections = _sections(folder, run, surveys, ports)
        instance = stack.enter_context(running_instance(run, environment, **sections))
        settings = instance.settings
        client = stack.enter_context(connect(settings, serverSelectionTimeoutMS=3000))
        _make_catalog(settings, client)
        stage = Stage(instance, list(surveys), portal, ways, shim, disk, client, settings)
        for worker in [one.name for one in stage.processes() if one.program == "worker"]:
            instance.kill(worker)  # they look for catalogs when they start, then every minute
        instance.wait_until_well()
        stage.prepare(every)
        try:
            yield stage
        finally:
            shutil.copytree(run / "logs", folder / "logs")  # the small disk goes away


class Ports(NamedTuple):
    """Where servers listen, and the proxies before them."""

    portal_way: int
    scheduler: int
    scheduler_way: int
    mongod: int
    mongod_way: int
    kafka: int
    kafka_way: int


def _shim(folder: Path) -> Shim | None:
    try:
        return Shim(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("no clock jumps, no cuts to MongoDB and Kafka: %s", error)
        return None


def _sections(folder: Path, run: Path, surveys: Sequence[Survey], ports: Ports) -> dict[str, Mapping[str, Any]]:
    """Write the settings of the instance."""
    models = folder / "models"
    models.mkdir()
    onnx.save(tiny_model(), str(models / f"{checker.MODEL}.v1.onnx"))
    usual, chosen = load(environ={}).settings, {survey.name for survey in surveys}
    trial = {"version": "v1", "format": "onnx", "triplet": False, "feature_names": ["magpsf"]}
    of_survey = {
        name: {
            "allowed_features": ["magpsf"],
            "models": {**dict.fromkeys(usual.ml.of(name).models), checker.MODEL: trial},
        }
        for name in chosen
    }
    address = f"tcp://127.0.0.1:{ports.scheduler_way}"
    source = {"cone_search_radius": 2, "cone_search_unit": "arcsec", "filter": {}, "projection": {"_id": 1}}
    return {
        "path": {"run": str(run), "models": str(models), "data": str(folder / "data")},
        "ml": {"use_tensorflow": False, **of_survey},
        "database": {"port": ports.mongod, "xmatch": {name: {checker.CATALOG: source} for name in chosen}},
        "surveys": {name: {"enabled": name in chosen, "scheduler_address": address} for name in SURVEYS},
        "skyportal": {
            "enabled": True,
            "host": "127.0.0.1",
            "port": ports.portal_way,
            "token": "a-token",
            "timeout_seconds": 3,
            "backoff_max_seconds": 2,
        },
        "kafka": {"port": ports.kafka, "heap": "256m", "partitions": 2, "discover_seconds": 1.0},
        "dask": {"n_workers": 2, "dashboard_port": None, "scheduler_port": ports.scheduler},
        "server": {"processes": 1},
    }


def tiny_model() -> onnx.ModelProto:
    """Make a model whose score is `checker.score` of one number."""
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", 1])]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    nodes = [helper.make_node("Add", ["numbers", "bias"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["score"])]
    bias = numpy_helper.from_array(np.array([[-18.0]], np.float32), "bias")
    graph = helper.make_graph(nodes, "trial", inputs, [output], [bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _make_catalog(settings: Settings, client: MongoClient[Document]) -> None:
    catalog = data_database(client, settings)[checker.CATALOG]
    catalog.create_index([("coordinates.radec_geojson", "2dsphere")])


def _point(ra: float, dec: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [ra - 180.0, dec]}


@contextmanager
def _small_disk(place: Path, megabytes: int) -> Iterator[Path | None]:
    """Mount a small file system in memory, if that is allowed here."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        yield None
        return
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], capture_output=True, check=True)
