"""A watcher as a service: through the command, in ``status``, alone, and ended by a signal."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kowalski.archive import reports
from kowalski.archive.client import system_database
from kowalski.archive.fetched import Memory
from kowalski.cli import watch
from kowalski.config import ConfigError, Settings
from kowalski.runtime import health, programs, services
from kowalski.watchers.errors import WatcherError
from kowalski.watchers.service import Service

from .conftest import Remote, status
from .test_operations_log import line, table


@pytest.fixture
def settings(archive: Any, remote: Remote, tmp_path, watched) -> Settings:
    found: Settings = archive.settings.model_copy(deep=True)
    found.path.data, found.path.run = tmp_path / "data", tmp_path / "run"
    found.watchers.ztf_ops.url = f"{remote.url}/log"
    found.watchers.attempts = 1
    remote.pages["/log"] = table(line(1))
    return found


def report(archive: Any, settings: Settings) -> dict[str, Any]:
    found = reports.read(system_database(archive.mongo, settings), "watcher:ztf_ops")
    return found[0] if found else {}


def eventually(condition) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_what_is_configured_runs_and_the_rest_says_what_it_needs(settings: Settings) -> None:
    assert list(settings.watchers.running) == ["ztf_ops"]
    names = [service.name for service in services.services(settings)]
    assert [name for name in names if name.startswith("watcher")] == ["watcher-ztf-ops"]
    planned = {program.name: program for program in programs.plan(settings) if program.name.startswith("watcher")}
    assert planned["watcher-ztf-ops"].command[-2:] == ("watch", "ztf_ops")
    told = settings.watchers.not_configured
    assert told["tns"] == "watchers.tns.bot_id, watchers.tns.bot_name, watchers.tns.api_key"
    assert told["ps1_psc"] == "watchers.ps1_psc.enabled: true"
    assert set(told) == {"tns", "ztf_alerts", "ztf_matchfiles", "ps1_psc", "report"}
    settings.watchers.ztf_ops.enabled = False
    assert settings.watchers.not_configured["ztf_ops"] == "watchers.ztf_ops.enabled: true"


@pytest.mark.parametrize(("name", "reason"), [("tns", "watchers.tns.api_key"), ("snt", "there are: tns")])
def test_what_is_not_configured_cannot_be_watched(settings: Settings, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Service(settings, name)


def test_a_service_goes_on_through_trouble_and_says_so(settings: Settings, archive: Any, remote: Remote) -> None:
    settings.watchers.ztf_ops.every_seconds = 0.05
    remote.says_first("/log", *[status(502)] * 3)
    service = Service(settings, "ztf-ops")
    started = time.time()
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    try:
        exposures = archive.mongo[settings.database.db].ZTF_ops
        eventually(lambda: exposures.count_documents({}) == 1)
        with pytest.raises(WatcherError, match="already being watched"):
            Service(settings, "ztf_ops").run(once=True)
    finally:
        service.stop()
        thread.join(60)
    assert not thread.is_alive()
    last = report(archive, settings)
    assert last["trouble"] is None
    assert last["last_pass"]["at"].replace(tzinfo=UTC) > datetime.fromtimestamp(started - 1, UTC)
    assert health.watching("ztf_ops")(settings, started - 1).ok


def test_a_server_that_is_away_is_told(settings: Settings, archive: Any, remote: Remote) -> None:
    remote.pages["/log"] = status(502)
    service = Service(settings, "ztf_ops")
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    eventually(lambda: remote.asked)
    service.stop()
    thread.join(60)
    found = health.watching("ztf_ops")(settings, 0.0)
    assert found.ok
    assert "502" in found.detail


def test_a_restart_does_not_ask_before_it_is_time(settings: Settings, remote: Remote) -> None:
    for _ in range(2):
        service = Service(settings, "ztf_ops")
        thread = threading.Thread(target=service.run, kwargs={"once": False})
        thread.start()
        eventually(lambda own=service: own._state["doing"] == "waiting")
        service.stop()
        thread.join(60)
    assert len(remote.asked) == 1


def test_a_clock_that_was_wrong_delays_nothing(settings: Settings, archive: Any, remote: Remote) -> None:
    mark = Memory(system_database(archive.mongo, settings), "ztf_ops")
    mark.save(next_at=datetime.now(UTC) + timedelta(days=1), pause=0.1)
    service = Service(settings, "ztf_ops")
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    eventually(lambda: remote.asked)
    service.stop()
    thread.join(60)


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    app = typer.Typer()
    watch.register(app)
    app.command("other")(lambda: None)
    monkeypatch.setattr("kowalski.cli.watch.settings", lambda: settings)
    monkeypatch.setattr("kowalski.runtime.logs.configure", lambda settings: None)  # the session's logs are pytest's
    return lambda *arguments: CliRunner().invoke(app, ["watch", *arguments])


def test_the_command_looks_once(run, remote: Remote) -> None:
    done = run("ztf_ops", "--once")
    assert done.exit_code == 0
    assert "1 new exposures" in done.output
    remote.pages["/log"] = table(line(1), line(2, exp="soon"), version='"2"')
    done = run("ztf_ops", "--once")
    assert done.exit_code == 1
    assert "line 3: 'soon' is no exp" in done.output


def test_the_command_lists_files(run, settings: Settings, remote: Remote) -> None:
    remote.pages["/a/"] = b'<a href="ztf_public_20260301.tar.gz">'
    settings.watchers.ztf_alerts.url = f"{remote.url}/a"
    settings.watchers.ztf_alerts.checksums = None
    done = run("ztf_alerts", "--list")
    assert done.output.splitlines() == [
        "name,url,md5",
        f"ztf_public_20260301.tar.gz,{remote.url}/a/ztf_public_20260301.tar.gz,",
    ]
    assert remote.paths() == ["/a/"]
    assert isinstance(run("ztf_ops", "--list").exception, ConfigError)
    assert isinstance(run("ztf_alerts", "--once", "--first-night", "yesterday").exception, ConfigError)
    assert isinstance(run("ztf_ops", "--once", "--first-night", "20260301").exception, ConfigError)
