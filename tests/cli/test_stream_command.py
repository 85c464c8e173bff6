from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kowalski.cli import stream
from kowalski.cli.main import main
from kowalski.config import PROJECT, Settings
from kowalski.testing import services


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    stream.register(made)
    made.command("other")(lambda: None)
    return made


@pytest.fixture
def run(app: typer.Typer, settings: Settings):
    environment = services.environment(settings)
    return lambda *arguments: CliRunner().invoke(app, ["stream", *map(str, arguments)], env=environment)


@pytest.mark.parametrize(("text", "rate"), [(None, None), ("50", 50.0), ("50/s", 50.0), (" 0.5/s", 0.5)])
def test_rates(text: str | None, rate: float | None) -> None:
    assert stream.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-1/s", "nan", "inf", "50/min"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        stream.parse_rate(text)


def test_packets_are_sent_and_counted(run, kafka: str, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.avro").write_bytes(b"packet")
    topic = f"stream_{uuid.uuid4().hex}"
    done = run("--topic", topic, "--path", tmp_path, "--max", 3, "--partitions", 2)
    assert done.exit_code == 0, done.output
    assert f"sent to {topic}: 3 packets, 0.0 MB, over 2 partitions" in done.output


def test_an_absent_folder_is_one_sentence(run, tmp_path: Path) -> None:
    done = run("--topic", "t", "--path", tmp_path / "absent")
    assert done.exit_code == 1
    assert "there is no folder" in done.output
    assert "Traceback" not in done.output


def test_kafka_that_does_not_answer_is_one_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.kafka.port = services.free_ports(1)[0]
    (tmp_path / "1.avro").write_bytes(b"packet")
    monkeypatch.setattr(stream, "PATIENCE", 0.3)
    monkeypatch.setenv("KOWALSKI_CONFIG", str(services.write_config(settings)))
    assert main(["stream", "--topic", "t", "--path", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"127.0.0.1:{settings.kafka.port}" in said
    assert "kafka.port" in said
    assert "Traceback" not in said


def test_script_takes_the_options_of_earlier_versions(settings: Settings, kafka: str, tmp_path: Path) -> None:
    settings.path.data = tmp_path
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "1.avro").write_bytes(b"packet")
    arguments = [
        "--topic",
        f"stream_{uuid.uuid4().hex}",
        "--path_alerts",
        "night",
        "--test",
        "True",
        "--max_alerts",
        "5",
    ]
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / "kafka_stream.py", *arguments],
        env=services.environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ": 1 packets" in done.stdout
