"""Dask workers on Slurm or Kubernetes: one process here that asks for as many as there is work for.

On Slurm that process holds the scheduler, and workers are jobs; on Kubernetes Dask's operator makes pods of both.
"""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import signal
import threading
from types import ModuleType
from typing import Any

import yaml

from kowalski.config import PROJECT, Settings
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.programs import DASK, ONE_THREAD, WORKER_MEMORY, WORKER_OPTIONS

SECRETS = "/run/secrets/kowalski"
"""Where the pods of workers find settings and secrets."""
LOOK_SECONDS = 5.0

Manifest = dict[str, Any]

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Hold the cluster until SIGTERM or an interrupt.

    Raises
    ------
    ServiceError
        If there is nothing to hold, a package is missing, or the cluster has ended.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    wanted = settings.dask.cluster
    with _open(settings) as cluster:
        cluster.adapt(minimum=wanted.minimum, maximum=wanted.maximum)
        log.info("%s to %s workers on %s", wanted.minimum, wanted.maximum, settings.dask.kind)
        while not stop.wait(LOOK_SECONDS):
            if cluster.status.name in ("closed", "failed"):
                raise ServiceError(f"the cluster on {settings.dask.kind} has ended by itself")


def description(settings: Settings) -> str:
    """Write what would be submitted: the script of a job, or the manifest of the cluster.

    Raises
    ------
    ServiceError
        As `run`.
    """
    if settings.dask.kind == "kubernetes":
        return str(yaml.safe_dump(manifest(settings), sort_keys=False))
    _require_jobs(settings)
    job = _package("dask_jobqueue.slurm").SLURMJob
    return str(job(settings.dask.address, "kowalski", **_job(settings)).job_script())


def _open(settings: Settings) -> Any:
    if settings.dask.kind == "kubernetes":
        own = settings.dask.cluster.kubernetes
        cluster = _package("dask_kubernetes.operator").KubeCluster
        return cluster(custom_cluster_spec=manifest(settings), namespace=own.namespace)
    _require_jobs(settings)
    dask = settings.dask
    port = 0 if dask.dashboard_port is None else dask.dashboard_port
    options = {
        "host": dask.host,
        "port": dask.scheduler_port,
        "dashboard": dask.dashboard_port is not None,
        "dashboard_address": f"{dask.host}:{port}",  # it serves figures and health in either case
    }
    return _package("dask_jobqueue").SLURMCluster(scheduler_options=options, name="kowalski", **_job(settings))


def _require_jobs(settings: Settings) -> None:
    kind = settings.dask.kind
    if kind != "slurm":
        raise ServiceError(f"dask.cluster.kind is {kind}: there is no cluster to hold; set slurm or kubernetes")


def _package(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0].replace("_", "-")
        raise ServiceError(
            f"workers elsewhere need the package {name}: .venv/bin/python -m pip install {name}"
        ) from error


# Slurm


def _job(settings: Settings) -> dict[str, Any]:
    """Describe one job: as many worker processes as it has cores."""
    own = settings.dask.cluster.slurm
    return {
        "queue": own.partition,
        "account": own.account,
        "cores": own.cores * settings.dask.threads_per_worker,
        "job_cpu": own.cores,
        "processes": own.cores,
        "memory": own.memory,
        "walltime": own.walltime,
        "interface": own.interface,
        "job_extra_directives": list(own.directives),
        "job_script_prologue": [*_exports(settings), *own.prologue],
        "worker_extra_args": list(WORKER_OPTIONS),
        "nanny": False,
        "local_directory": str(settings.path.run / "dask"),
        "log_directory": str(settings.path.run / "logs"),
    }


def _exports(settings: Settings) -> list[str]:
    """Say what a worker needs to know and everybody may read, as they may job scripts.

    Variables with settings go along with the job by themselves (``sbatch --export=ALL``), and secrets stay in the run
    folder.
    """
    variables = DASK | ONE_THREAD | WORKER_MEMORY
    variables |= {"PYTHONPATH": str(PROJECT), "DASK_LOGGING__KOWALSKI": settings.logging.level}
    named = os.environ.get("KOWALSKI_CONFIG")
    variables |= {"KOWALSKI_CONFIG": named} if named else {}
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


# Kubernetes


def manifest(settings: Settings) -> Manifest:
    """Describe the cluster as Dask's operator takes it (kind ``DaskCluster``)."""
    own = settings.dask.cluster.kubernetes
    selector = {"dask.org/cluster-name": own.name, "dask.org/component": "scheduler"}
    ports = [{"name": "tcp-comm", "port": 8786}, {"name": "http-dashboard", "port": 8787}]
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": own.name, "namespace": own.namespace},
        "spec": {
            "worker": {"replicas": settings.dask.cluster.minimum, "spec": _pod(settings, _worker(settings))},
            "scheduler": {
                "spec": _pod(settings, _scheduler()),
                "service": {
                    "type": "ClusterIP",
                    "selector": selector,
                    "ports": [each | {"protocol": "TCP", "targetPort": each["name"]} for each in ports],
                },
            },
        },
    }


def _pod(settings: Settings, container: Manifest) -> Manifest:
    own = settings.dask.cluster.kubernetes
    files = {f"{SECRETS}/config.yaml": "config.yaml", "/kowalski/run/secrets.json": "secrets.json"}
    mounts = [{"name": "config", "mountPath": path, "subPath": part, "readOnly": True} for path, part in files.items()]
    variables = DASK | ONE_THREAD | WORKER_MEMORY | {"KOWALSKI_CONFIG": f"{SECRETS}/config.yaml"}
    variables |= {"KOWALSKI_PATH__RUN": "/kowalski/run", "DASK_LOGGING__KOWALSKI": settings.logging.level}
    common: Manifest = {
        "image": own.image,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 0, "fsGroup": 0},
        "containers": [common | container],
        "volumes": [{"name": "config", "secret": {"secretName": own.secret, "defaultMode": 0o440}}],
    }


def _scheduler() -> Manifest:
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "initialDelaySeconds": 5, "periodSeconds": 10}
    return {
        "name": "scheduler",
        "args": ["python", "-m", "dask", "scheduler", "--host", "0.0.0.0"],
        "ports": [
            {"name": "tcp-comm", "containerPort": 8786, "protocol": "TCP"},
            {"name": "http-dashboard", "containerPort": 8787, "protocol": "TCP"},
        ],
        "readinessProbe": probe,
        "livenessProbe": probe,
    }


def _worker(settings: Settings) -> Manifest:
    own, dask = settings.dask.cluster.kubernetes, settings.dask
    command = ["python", "-m", "dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--no-nanny", "--no-dashboard"]
    command += ["--nthreads", str(dask.threads_per_worker), "--memory-limit", dask.memory_limit, *WORKER_OPTIONS]
    return {
        "name": "worker",
        "args": command,  # the operator adds the scheduler's address as a variable
        "resources": {"requests": {"cpu": own.cpu, "memory": own.memory}, "limits": {"memory": own.memory}},
    }
