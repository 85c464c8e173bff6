from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kowalski import surveys
from kowalski.config import Settings, load
from kowalski.config.secrets import Secrets
from kowalski.runtime import programs


@pytest.fixture
def make(tmp_path: Path):
    def make(**sections: Any) -> Settings:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"path": {"run": str(tmp_path / "run")}, **sections}))
        return load(file, {}).settings

    return make


EXTERNAL = {
    "database": {"uri": "mongodb://user:secret@db.example.net/"},
    "kafka": {"bootstrap": {"servers": "kafka.example.net:9092"}},
    "dask": {"scheduler_address": "tcp://dask.example.net:8786"},
}


BROKERS = [programs.broker_name(name) for name in surveys.SURVEYS]


def names(settings: Settings) -> list[str]:
    return [program.name for program in programs.plan(settings)]


def option(program: programs.Program, name: str) -> str:
    return program.command[program.command.index(name) + 1]


def test_external_servers_replace_ours_one_by_one(make) -> None:
    assert names(make(**EXTERNAL)) == ["api", *BROKERS]
    without_dask = {key: value for key, value in EXTERNAL.items() if key != "dask"}
    assert names(make(**without_dask)) == ["scheduler", "worker", "api", *BROKERS]
    without_database = {key: value for key, value in EXTERNAL.items() if key != "database"}
    assert names(make(**without_database)) == ["mongod", "api", *BROKERS]


def test_what_is_switched_off_or_on(make) -> None:
    off = {"surveys": {name: {"enabled": False} for name in surveys.SURVEYS}, "skyportal": {"enabled": True}}
    assert names(make(**EXTERNAL, **off)) == ["api", "courier"]


def test_programs_start_in_the_order_of_their_priorities(make) -> None:
    without_kafka = {key: value for key, value in EXTERNAL.items() if key == "kafka"}
    found = programs.plan(make(**without_kafka, skyportal={"enabled": True}))
    assert [program.priority for program in found] == sorted(program.priority for program in found)
    assert [program.name for program in found if not program.reads_settings] == ["mongod", "scheduler"]


def test_workers(make) -> None:
    worker = programs.worker(make(dask={"n_workers": 3, "threads_per_worker": 2, "memory_limit": "1.5 GiB"}))
    assert worker.copies == 3
    assert "--no-nanny" in worker.command
    assert option(worker, "--nthreads") == "2"
    assert option(worker, "--memory-limit") == "1.5 GiB"
    assert worker.environment["OMP_NUM_THREADS"] == "1"
    assert "--lifetime" not in worker.command
    assert worker.restart_on_success


def test_workers_that_live_for_a_time_only(make) -> None:
    dask = {"lifetime": "24 hours", "lifetime_stagger": "1 hours", "lifetime_restart": False}
    worker = programs.worker(make(dask=dask))
    assert option(worker, "--lifetime") == "24 hours"
    assert option(worker, "--lifetime-stagger") == "1 hours"
    assert not worker.restart_on_success


def test_workers_of_another_scheduler_choose_their_own_address(make) -> None:
    worker = programs.worker(make(**EXTERNAL))
    assert "tcp://dask.example.net:8786" in worker.command
    assert "--host" not in worker.command


@pytest.mark.parametrize(("host", "bound"), [("127.0.0.1", "127.0.0.1:4000"), ("::1", "[::1]:4000")])
def test_where_the_api_listens(make, host: str, bound: str) -> None:
    assert option(programs.api(make(server={"host": host})), "--bind") == bound


def test_requests_without_limit(make) -> None:
    assert option(programs.api(make(server={"max_requests": 70})), "--max-requests-jitter") == "7"
    assert "--max-requests" not in programs.api(make(server={"max_requests": 0})).command


def test_a_dashboard_can_be_left_out(make) -> None:
    assert option(programs.scheduler(make()), "--dashboard-address") == "127.0.0.1:8787"
    assert "--no-dashboard" in programs.scheduler(make(dask={"dashboard_port": None})).command


def test_a_change_shows_in_the_programs_it_touches_only(make, tmp_path: Path) -> None:
    without_kafka = {key: value for key, value in EXTERNAL.items() if key == "kafka"}
    Secrets.ensure(tmp_path / "run")  # before that, passwords are invented anew with each load
    before = {program.name: program for program in programs.plan(make(**without_kafka))}
    again = {program.name: program for program in programs.plan(make(**without_kafka))}
    changed = {"filters": {"max_time_ms": 5}}
    after = {program.name: program for program in programs.plan(make(**without_kafka, **changed))}
    assert {name for name in before if before[name] != after[name]} == {"worker", "api", *BROKERS}
    assert before == again
