from __future__ import annotations

import csv
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from kowalski.broker.avro import Decoder
from kowalski.cli import simulate


def run(*arguments: object) -> Result:
    app = typer.Typer()
    simulate.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_packets_and_truth_are_written(tmp_path: Path) -> None:
    done = run("--survey", "ztf", "--n", 12, "--seed", 3, "--out", tmp_path / "night", "--obsdate", "20240715")
    assert done.exit_code == 0, done.output
    packets = [Decoder().records(path.read_bytes())[0] for path in sorted((tmp_path / "night").glob("*.avro"))]
    assert len(packets) == 12
    assert [packet["candidate"]["jd"] for packet in packets] == sorted(packet["candidate"]["jd"] for packet in packets)
    assert all(2460506.5 < packet["candidate"]["jd"] < 2460507.5 for packet in packets)
    with (tmp_path / "night" / "truth.csv").open(newline="") as file:
        truth = {(int(row["candid"]), row["objectId"]) for row in csv.DictReader(file)}
    assert truth == {(packet["candid"], packet["objectId"]) for packet in packets}


def test_the_same_command_writes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("--n", 5, "--out", tmp_path / name).exit_code == 0
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.parametrize("options", [("--obsdate", "2023-10-12"), ("--n", "0"), ("--repeat-frac", "2")])
def test_wrong_options_are_named(tmp_path: Path, options: tuple[str, str]) -> None:
    done = run("--out", tmp_path, *options)
    assert done.exit_code == 2
    assert options[0] in done.output
    assert not list(tmp_path.iterdir())
