from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kowalski.cli import main as entry
from kowalski.cli.main import COMMANDS, build, main
from kowalski.config import PROJECT
from kowalski.runtime.errors import ServiceError
from kowalski.testing.services import free_ports


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KOWALSKI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KOWALSKI_CONFIG", "")  # so that what a command sets is undone


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An instance that was never started."""
    ports = free_ports(5)
    content = {
        "path": {"run": str(tmp_path / "run")},
        "server": {"port": ports[0]},
        "database": {"port": ports[1]},
        "kafka": {"port": ports[2], "controller_port": ports[3]},
        "dask": {"scheduler_port": ports[4], "dashboard_port": None},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--config", "a.yaml", "up"], ["up"]),
        (["up", "--config=a.yaml", "--build"], ["up", "--build"]),
        (["logs", "api", "--config", "a.yaml"], ["logs", "api"]),
    ],
)
def test_the_configuration_may_be_named_anywhere(arguments: list[str], left: list[str]) -> None:
    assert entry._take_config(arguments) == left
    assert os.environ["KOWALSKI_CONFIG"] == str(Path("a.yaml").resolve())


def test_after_two_dashes_nothing_is_ours() -> None:
    assert entry._take_config(["test", "--", "--config", "x"]) == ["test", "--", "--config", "x"]
    assert os.environ["KOWALSKI_CONFIG"] == ""


@pytest.mark.parametrize("arguments", [["status", "--config"], ["--config="]])
def test_a_configuration_without_a_name(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "Error: --config needs the name of a file\n"


@pytest.mark.parametrize("command", [["up"], ["status"], ["logs", "api"], ["restart", "api"], ["run", "api"], ["down"]])
def test_wrong_settings_end_every_command(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server: {port: x}")
    assert main([*command, "--config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"Error: {file}: server.port = 'x'")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", [["nonsense"], ["up", "--nonsense"], ["logs", "-n", "x"], ["run", "nonsense"]])
def test_wrong_commands(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "First steps" in said
    for name in ("up", "down", "status", "logs", "restart", "build", "run", "stream", "simulate", "test", "lint"):
        assert f"│ {name} " in said, name
    assert len(build().registered_commands) + len(build().registered_groups) > len(COMMANDS)


def test_status_of_what_was_never_started(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--config", str(config)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert {line["state"] for line in found["services"]} == {"stopped"}
    assert not (config.parent / "run").exists()


def test_down_twice(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["down", "--config", str(config)]) == 0
        assert capsys.readouterr().out == "Everything is stopped.\n"


@pytest.mark.parametrize("command", ["logs", "restart"])
def test_services_that_there_are_not(command: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "api", "--config", str(config)]) == 1
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--survey", "FOO"], "no survey FOO; known: ZTF"),
        (["--survey", "ztf", "--obsdate", "yesterday"], "yesterday is no night"),
    ],
)
def test_a_broker_of_what(arguments: list[str], part: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "broker", *arguments, "--config", str(config)]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ServiceError("it rains"), 1, "Error: it rains\n"),
        (OSError(28, "No space left on device", "/here"), 1, "Error: /here: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("oh"), 1, "Error: this is a fault of Kowalski (ZeroDivisionError: oh)"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    error: BaseException,
    status: int,
    said: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setenv("TMPDIR", str(config.parent))
    monkeypatch.setattr("kowalski.runtime.lifecycle.stop", fail)
    assert main(["down", "--config", str(config)]) == status
    found = capsys.readouterr().err
    assert found.startswith(said)
    assert "Traceback" not in found


def test_the_test_command_hands_on_and_closes_with_a_plain_line() -> None:
    command = [sys.executable, "-m", "kowalski.cli", "test", "tests/config/test_legacy.py"]
    command += ["-q", "--noconftest", "-k", "published"]  # these need no servers, whose code takes seconds to load
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0
    assert "1 passed" in done.stdout
    assert done.stdout.splitlines()[-1] == "All tests passed."
    done = subprocess.run([*command[:-1], "nothing_at_all"], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 5
    assert done.stdout.splitlines()[-1] == "No test matches."
