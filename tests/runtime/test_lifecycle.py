"""Starting and stopping without servers: what is said and done before and after; the rest is in tests/system."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import yaml

from kowalski.config import Settings, load
from kowalski.config.secrets import Secrets
from kowalski.runtime import health, lifecycle, programs, services, status
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.health import Health
from kowalski.runtime.supervisor import Supervisor
from kowalski.testing.services import free_ports


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, text: str) -> None:
        self.told.append(text)

    def progress(self, name: str, done: int, total: int) -> None:
        self.told.append(name)

    def ready(self, text: str) -> None:
        self.told.append(text)

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def outside(tmp_path: Path) -> Settings:
    """Settings of an instance whose servers others run, at addresses where nobody is."""
    ports = free_ports(4)
    run = tmp_path / "run"
    content = {
        "path": {"run": str(run)},
        "server": {"port": ports[0]},
        "database": {"uri": f"mongodb://127.0.0.1:{ports[1]}"},
        "kafka": {"bootstrap": {"servers": f"127.0.0.1:{ports[2]}"}},
        "dask": {"scheduler_address": f"tcp://127.0.0.1:{ports[3]}"},
        "surveys": {"ZTF": {"enabled": False}},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    Secrets.ensure(run)
    return load(file, {}).settings


@pytest.mark.parametrize("password", ["admin", "better"])
def test_default_password_and_loopback(outside: Settings, password: str) -> None:
    outside.server.admin_password = password
    assert lifecycle.has_default_password(outside) == (password == "admin")


def test_default_password_and_the_world(outside: Settings) -> None:
    outside.server.host = "0.0.0.0"
    with pytest.raises(ServiceError, match=r"server\.admin_password"):
        lifecycle.start(outside, Notes())
    assert not Supervisor(outside).is_running()
    outside.server.admin_password = "better"
    assert not lifecycle.has_default_password(outside)


def test_stopping_what_does_not_run(outside: Settings) -> None:
    notes = Notes()
    lifecycle.stop(outside, notes)
    assert notes.told == []


def test_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with lifecycle.alone(tmp_path):
            order.append("second")

    with lifecycle.alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_service_that_stays_ill_is_given_up(outside: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "PATIENCE", 0.3)
    service = services.Service("api", "http://x", lambda settings, started: Health(False, "it sneezes"))
    with pytest.raises(ServiceError, match=r"^api is not healthy after 0\.3 s \(it sneezes\)$"):
        lifecycle.await_health(service, outside, Supervisor(outside), Notes())


def test_a_service_that_recovers_is_waited_for(outside: Settings) -> None:
    answers = iter([Health(False), Health(False), Health(True, "well")])
    service = services.Service("worker", "", lambda settings, started: next(answers))
    notes = Notes()
    lifecycle.await_health(service, outside, Supervisor(outside), notes)
    assert notes.told[-1] == "worker: well"


def test_status_of_an_instance_of_which_nothing_runs(outside: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.5)
    found = status.gather(outside)
    assert not found.ok
    states = {line.name: line.state for line in found.services}
    brokers = [programs.broker_name(survey) for survey in outside.enabled_surveys]
    expected = dict.fromkeys(("mongod", "kafka", "scheduler", "worker"), "external")
    assert states == expected | dict.fromkeys(("api", *brokers), "stopped")
    assert len(found.problems) == len(states)
    assert found.dead_letters is None
    assert found.as_dict()["ok"] is False


def test_passwords_are_not_shown(outside: Settings) -> None:
    outside.database.uri = "mongodb://me:secret@one.example.net,two.example.net/?replicaSet=a"
    assert services.services(outside)[0].address == "one.example.net,two.example.net"
