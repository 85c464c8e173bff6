"""Workers elsewhere: job scripts and manifests, what keeps them from being made, and a cluster whose jobs run here."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo import MongoClient

from kowalski import config
from kowalski.config import PROJECT, ConfigError, Settings
from kowalski.runtime import clusters, health, programs, services
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services as testing

SBATCH = """\
#!/bin/sh
# Slurm's stand-in: a job is a process of this machine, and its number that of the process.
cp "$1" "{folder}/job.sh"
bash "{folder}/job.sh" > "{folder}/job.out" 2>&1 &
echo $! >> "{folder}/jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """\
#!/bin/sh
kill "$@"
"""


def load(tmp_path: Path, **dask: Any) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"path": {"run": str(tmp_path / "run")}, "dask": dask}))
    return config.load(file, {}).settings


def test_a_job_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOWALSKI_CONFIG", "/somewhere/it's.yaml")
    monkeypatch.setenv("KOWALSKI_DATABASE__PASSWORD", "not-for-scripts")
    own = {"partition": "astro", "account": "ztf", "cores": 4, "memory": "16GB", "walltime": "2-00:00:00"}
    own |= {"interface": "ib0", "directives": ["--constraint=cpu"], "prologue": ["module load python"]}
    settings = load(tmp_path, host="10.0.0.5", cluster={"kind": "slurm", "slurm": own})
    script = clusters.description(settings)
    for line in ("-p astro", "-A ztf", "--cpus-per-task=4", "--mem=15G", "-t 2-00:00:00", "--constraint=cpu"):
        assert f"#SBATCH {line}\n" in script
    assert "\nexport KOWALSKI_CONFIG='/somewhere/it'\"'\"'s.yaml'\n" in script
    assert "not-for-scripts" not in script  # everybody may read it
    assert script.index("export PYTHONPATH") < script.index("module load python") < script.index("dask_worker")
    start = script[script.index(sys.executable) :]
    for part in ("tcp://10.0.0.5:8786", "--nworkers 4", "--nthreads 1", "--no-nanny", "--interface ib0"):
        assert part in start
    for module in ("kowalski.broker.worker", "kowalski.runtime.worker_guard"):
        assert f"--preload {module}" in start
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_manifest(tmp_path: Path) -> None:
    own = {"name": "nightly", "namespace": "astro", "image": "registry.example.org/kowalski:4", "cpu": "2"}
    settings = load(tmp_path, cluster={"kind": "kubernetes", "minimum": 3, "kubernetes": own})
    found = yaml.safe_load(clusters.description(settings))
    assert (found["apiVersion"], found["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    assert found["metadata"] == {"name": "nightly", "namespace": "astro"}
    assert settings.dask.address == "tcp://nightly-scheduler.astro:8786"
    spec = found["spec"]
    assert spec["worker"]["replicas"] == 3
    (worker,), (scheduler,) = (spec[part]["spec"]["containers"] for part in ("worker", "scheduler"))
    assert worker["args"][-4:] == ["--preload", "kowalski.broker.worker", "--preload", "kowalski.runtime.worker_guard"]
    assert worker["resources"]["requests"]["cpu"] == "2"
    for pod, container in ((spec["worker"], worker), (spec["scheduler"], scheduler)):
        assert container["image"] == own["image"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["volumes"][0]["secret"]["secretName"] == "kowalski"
    named = {each["name"] for each in scheduler["ports"]}
    assert {each["targetPort"] for each in spec["scheduler"]["service"]["ports"]} == named


def test_programs_by_kind(tmp_path: Path) -> None:
    external = {"KOWALSKI_DATABASE__HOST": "db", "KOWALSKI_KAFKA__BOOTSTRAP__SERVERS": "kafka:9092"}

    def of_dask(**dask: Any) -> tuple[list[str], dict[str, bool]]:
        load(tmp_path, **dask)
        settings = config.load(tmp_path / "config.yaml", external).settings
        known = [program.name for program in programs.plan(settings) if program.name in ("scheduler", "worker")]
        return known, {each.name: each.embedded for each in services.services(settings)}

    assert of_dask()[0] == ["scheduler", "worker"]
    assert of_dask(cluster={"kind": "local"})[0] == ["scheduler", "worker"]
    for cluster in ({}, {"kind": "address"}):
        assert of_dask(scheduler_address="tcp://far:1", cluster=cluster)[0] == []
    for kind in ("slurm", "kubernetes"):
        names, embedded = of_dask(host="10.0.0.5", cluster={"kind": kind})
        assert names == ["scheduler"]
        assert (embedded["scheduler"], embedded["worker"]) == (True, False)


@pytest.mark.parametrize(
    ("dask", "said"),
    [
        ({"cluster": {"kind": "address"}}, "address needs scheduler_address"),
        ({"cluster": {"kind": "local"}, "scheduler_address": "tcp://x:1"}, "local has no use for scheduler_address"),
        ({"cluster": {"kind": "slurm"}}, "slurm needs host"),
        ({"cluster": {"minimum": 5, "maximum": 2}}, "minimum must not be above maximum"),
        ({"cluster": {"kind": "pbs"}}, "dask.cluster.kind"),
    ],
    ids=["address", "local", "slurm", "range", "unknown"],
)
def test_contradictions_are_told(tmp_path: Path, dask: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **dask)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    for kind, package in (("slurm", "dask-jobqueue"), ("kubernetes", "dask-kubernetes")):
        settings = load(tmp_path, host="10.0.0.5", cluster={"kind": kind})
        with pytest.raises(ServiceError, match=f"pip install {package}"):
            clusters.run(settings)
    with pytest.raises(ServiceError, match="there is no cluster to hold"):
        clusters.description(load(tmp_path))


def test_jobs_are_submitted_and_work(settings: Settings, mongo: MongoClient[dict[str, Any]], tmp_path: Path) -> None:
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    settings.dask.host = "127.0.0.2"
    settings.dask.dashboard_port = None
    settings.dask.cluster.kind = "slurm"
    environment = {**os.environ, **testing.environment(settings), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "kowalski.cli", "run", "cluster"]
    log = tmp_path / "cluster.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 90
        while not (found := health.workers(settings)).ok:
            told = log.read_text() + "".join(each.read_text() for each in tmp_path.glob("job.out"))
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.5)
        assert found.detail == "1 registered"
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
        jobs = [int(line) for line in (tmp_path / "jobs").read_text().split()]
        left = [pid for pid in jobs if Path(f"/proc/{pid}/cmdline").exists() and _is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert ended == 0, log.read_text()


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
