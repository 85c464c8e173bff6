"""``logs``: several services by time, only what is asked for, and on as they write."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from supervisor.loggers import RotatingFileHandler

from kowalski.cli.main import main
from kowalski.config import PROJECT

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


@pytest.fixture(autouse=True)
def _three_hours_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from the test's own beginning: minutes lie between that and this module's import."""
    monkeypatch.setattr(sys.modules[__name__], "START", datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3))


def stamp(minutes: int) -> str:
    return f"{START + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs of an instance: an API, two workers, a broker that fails."""
    (tmp_path / "config.yaml").write_text(f"path: {{run: {tmp_path / 'run'}}}")
    monkeypatch.setenv("KOWALSKI_CONFIG", str(tmp_path / "config.yaml"))
    folder = tmp_path / "run" / "logs"
    folder.mkdir(parents=True)
    access = {"time": stamp(2), "level": "INFO", "logger": "kowalski.access", "message": "GET / 200", "status": 200}
    (folder / "api.log").write_text(json.dumps(access) + f"\n{stamp(100)} WARNING kowalski.api: slow\n")
    for number in range(2):
        lines = [f"{stamp(10 * n + number)} INFO worker: {number}-{n}\n" for n in range(3)]
        (folder / f"worker-{number}.log").write_text("".join(lines))
    trace = "Traceback (most recent call last):\n  File x\nKeyError: 'Candid'"
    (folder / "broker-ztf.log.1").write_text(f"{stamp(3)} ERROR kowalski.broker: failed\n{trace[:40]}")
    (folder / "broker-ztf.log").write_text(f"{trace[40:]}\n{stamp(175)} ERROR kowalski.broker: \x1b[2Jagain\n")
    (folder / "worker-guard.log").write_text("")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["logs", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_all_services_by_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split()[0] for line in said(capsys)] == [
        *("worker-0", "worker-1", "api"),
        *["broker-ztf"] * 4,
        *("worker-0", "worker-1", "worker-0", "worker-1", "api", "broker-ztf"),
    ]


def test_some_services(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last of each; names before the lines only where there are several."""
    both = said(capsys, "worker", "-n", "1")
    assert both == [f"worker-{n} | {stamp(20 + n)} INFO worker: {n}-2" for n in (0, 1)]
    assert said(capsys, "worker-0", "worker", "-n", "1") == both
    assert said(capsys, "worker-1", "-n", "1") == [f"{stamp(21)} INFO worker: 1-2"]
    assert said(capsys, "api", "-n", "0") == []


def test_what_is_found_how_bad_and_since(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "broker-ztf", "--grep", "candid")[-1] == "KeyError: 'Candid'"  # its whole entry, any case
    assert said(capsys, "--grep", "CANDID") == []
    assert len(said(capsys, "--grep", r"worker: \d-2$")) == 2
    assert len(said(capsys, "--grep", "worker", "-n", "1")) == 2  # the last that fit, not what fits of the last
    assert [line.split()[0] for line in said(capsys, "--level", "warning", "-n", "1")] == ["api", "broker-ztf"]
    assert len(said(capsys, "--level", "ERROR")) == 5
    assert [line.split()[0] for line in said(capsys, "--since", "2h")] == ["api", "broker-ztf"]
    assert len(said(capsys, "--since", "10m")) == 1
    assert len(said(capsys, "--since", stamp(20)[:16])) == 4
    (folder / "api.log").write_text("".join(f"{stamp(170)} INFO line {n}\n" for n in range(200)))
    assert len(said(capsys, "api", "--since", stamp(150))) == 200
    assert len(said(capsys, "api")) == 50


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [json.loads(line) for line in said(capsys, "--json", "api", "broker-ztf")]
    assert [event["service"] for event in events] == ["api", "broker-ztf", "api", "broker-ztf"]
    assert events[0] == {
        "service": "api",
        "time": stamp(2).replace("Z", ".000Z"),
        "level": "INFO",
        "message": "GET / 200",
        "fields": {"logger": "kowalski.access", "status": 200},
    }
    assert events[1]["level"] == "ERROR"
    assert events[1]["message"].splitlines()[0] == "kowalski.broker: failed"
    assert events[1]["message"].endswith("\nKeyError: 'Candid'")


def test_on_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Services have colours, bad things others; what clients have written does not steer the terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = said(capsys, "api", "broker-ztf", "-n", "1")
    assert [line[: line.index("m") + 1] for line in lines] == ["\x1b[36m", "\x1b[32m"]
    assert "\x1b[33m" in lines[0]
    assert "\x1b[31m" in lines[1]
    assert "\x1b[2J" not in lines[1]
    assert r"\x1b[2Jagain" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["nobody"], 1, "there is no log of nobody"),
        (["**"], 1, "there is no log of **"),
        (["/etc/passwd"], 1, "there is no log of /etc/passwd"),
        (["api", "nobody"], 1, "api, broker-ztf, worker-0, worker-1, worker-guard"),
        (["--since", "yesterday"], 2, "'yesterday' is neither"),
        (["--since", "999999w"], 2, "neither"),
        (["--grep", "a("], 2, "no regular expression"),
        (["--level", "loud"], 2, "'loud' is none of debug"),
    ],
    ids=["name", "glob", "path", "names", "since", "before-time", "grep", "level"],
)
def test_wrong_questions(
    arguments: list[str], status: int, part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", *arguments]) == status
    error = capsys.readouterr().err
    assert part in error
    assert "Traceback" not in error


def test_of_what_was_never_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(f"path: {{run: {tmp_path / 'run'}}}")
    assert main(["logs", "--config", str(tmp_path / "config.yaml")]) == 1
    assert "there are no logs" in capsys.readouterr().err


def test_going_on_over_rotation(folder: Path) -> None:
    """What supervisord writes meanwhile is shown once, whichever file it is in, and only what fits."""
    handler = RotatingFileHandler(str(folder / "worker-0.log"), maxBytes=200, backupCount=5)
    command = [sys.executable, "-m", "kowalski.cli", "logs", "worker", "-f", "-n", "1", "--level", "info"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=dict(os.environ))
    try:
        assert process.stdout is not None
        assert [process.stdout.readline().split()[-1] for _ in range(2)] == ["0-2", "1-2"]
        for number in range(20):
            level = logging.getLevelName(logging.DEBUG if number % 2 else logging.INFO)
            handler.stream.write(f"{stamp(30)} {level} worker: more {number}\n".encode())
            handler.stream.flush()
            handler.doRollover()
        assert (folder / "worker-0.log.2").exists()
        lines = [process.stdout.readline() for _ in range(10)]
        assert lines == [f"worker-0 | {stamp(30)} INFO worker: more {n}\n" for n in range(0, 20, 2)]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        handler.close()
    assert process.returncode == 130
