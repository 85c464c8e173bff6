"""What an operator does: up, status, logs, restart, down; and what is said when it can't be done."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from kowalski import surveys
from kowalski.runtime import programs
from kowalski.testing import instance as instances
from kowalski.testing import services

SERVICES = {"mongod", "kafka", "scheduler", "worker-0", "worker-1", "api", "courier"}
SERVICES |= {programs.broker_name(name) for name in surveys.SURVEYS}


def test_up_again_changes_nothing(kowalski: instances.Instance) -> None:
    before = {line["name"]: line["pid"] for line in kowalski.status()["services"]}
    assert set(before) == SERVICES
    said = kowalski.cli("up").stdout
    assert {line["name"]: line["pid"] for line in kowalski.status()["services"]} == before
    assert "What next" in said
    assert all(name in said for name in SERVICES)


def test_status_says_what_there_is(kowalski: instances.Instance) -> None:
    kowalski.wait_until_well()
    found = kowalski.status()
    assert found["ok"]
    assert {"lag", "dead_letters", "outbox", "models", "missing_catalogs"} <= set(found)
    for line in found["services"]:
        assert Path(line["log"]).is_file()
        assert line["healthy"], line
    assert json.loads(kowalski.cli("status", "--json").stdout)["ok"]
    kowalski.wait(lambda: bool(kowalski.status()["missing_catalogs"].get("ZTF")), "no worker has reported")
    told = kowalski.cli("status").stdout
    assert "alerts waiting in Kafka" in told
    (line,) = [line for line in told.splitlines() if "ZTF: alerts are not matched" in line]
    assert "AllWISE" in line
    assert "no such collection" in line


def test_logs_and_restart(kowalski: instances.Instance) -> None:
    before = kowalski.pid("api")
    kowalski.cli("restart", "api")
    kowalski.wait_until_well()
    assert kowalski.pid("api") != before
    assert "Listening at" in kowalski.cli("logs", "api").stdout
    assert kowalski.cli("logs", "nobody", check=False).returncode != 0
    assert kowalski.cli("restart", "nobody", check=False).returncode != 0


@pytest.mark.parametrize("service", ["worker-0", "api"])
def test_what_is_killed_comes_back(kowalski: instances.Instance, service: str) -> None:
    kowalski.wait_until_well()
    before = kowalski.kill(service)
    kowalski.wait(lambda: kowalski.pid(service) not in (None, before), f"{service} does not come back")
    kowalski.wait_until_well()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("server: {prot: 1}", ["server.prot", "server.port"]),
        ("server: {port: many}", ["server.port", "many", "integer"]),
        ("server: {port: 70000}", ["server.port", "70000", "65535"]),
        ("server: [", ["not valid YAML"]),
        ("kafka: {port: 4000}", ["server.port", "kafka.port", "4000"]),
    ],
)
def test_wrong_settings_are_one_sentence(tmp_path: Path, text: str, parts: list[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    for command in (("up",), ("status",)):
        done = instances.Instance(config).cli(*command, check=False)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        for part in parts:
            assert part in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_taken_port_is_named_with_its_key(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.dask.scheduler_port))
        taken.listen()
        done = instances.Instance(tmp_path / "run" / "config.yaml").cli("up", check=False)
    assert done.returncode == 1
    assert "dask.scheduler_port" in done.stderr
    assert str(settings.dask.scheduler_port) in done.stderr


def test_default_secrets_stay_at_home(tmp_path: Path) -> None:
    services.new_settings(tmp_path / "run", server={"host": "0.0.0.0", "port": services.free_ports(1)[0]})
    done = instances.Instance(tmp_path / "run" / "config.yaml").cli("up", check=False)
    assert done.returncode != 0
    assert "server.admin_password" in done.stderr


def test_a_second_instance_comes_goes_and_leaves_nothing(tmp_path: Path, kowalski: instances.Instance) -> None:
    """Side by side with the first one; afterwards no process and no readable secret is left."""
    run = tmp_path / "run"
    off: dict[str, Any] = {name: {"enabled": False} for name in surveys.SURVEYS if name != "PGIR"}
    with instances.running(run, ml={"use_tensorflow": False}, surveys=off, server={"processes": 1}) as second:
        ours = [line["pid"] for line in second.status()["services"]]
        assert all(psutil.pid_exists(pid) for pid in ours)
        assert (run / "secrets.json").stat().st_mode & 0o077 == 0
        supervisor = psutil.Process(ours[0]).ppid()
        os.kill(supervisor, 9)  # even so, `down` finds what it has left behind
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(run) in " ".join(process.info["cmdline"] or [])
    ]
    assert not any(psutil.pid_exists(pid) for pid in ours)
    assert kowalski.status()["ok"]
