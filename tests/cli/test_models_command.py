"""``models``: what it prints, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from kowalski.config import PROJECT


def model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["triplet"], ["all"], keepdims=1), helper.make_node("Flatten", ["all"], ["s"])],
        "mean",
        [helper.make_tensor_value_info("triplet", TensorProto.FLOAT, [1, 63, 63, 3])],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run a command of an instance with two models: ``good`` lies there, ``bad`` does not."""
    published = tmp_path / "published.onnx"
    onnx.save(model(), str(published))
    (tmp_path / "models").mkdir()
    onnx.save(model(), str(tmp_path / "models" / "good.v1.onnx"))
    default = yaml.safe_load((PROJECT / "config.defaults.yaml").read_text())["ml"]["ZTF"]["models"]
    models: dict[str, Any] = dict.fromkeys(default)
    models["good"] = {"version": "v1", "format": "onnx"}
    models["bad"] = {"version": "v2", "format": "onnx", "url": str(tmp_path / "nowhere.onnx")}
    models["copied"] = {"version": "v3", "format": "onnx", "url": str(published)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"ml": {"ZTF": {"models": models}}}))
    environment = os.environ | {
        "KOWALSKI_CONFIG": str(tmp_path / "config.yaml"),
        "KOWALSKI_PATH__MODELS": str(tmp_path / "models"),
        "KOWALSKI_PATH__RUN": str(tmp_path / "run"),
    }
    return lambda *arguments: subprocess.run(
        [sys.executable, "-m", "kowalski.cli", "models", *arguments],
        env=environment, cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip


def states(printed: str) -> dict[str, str]:
    rows = [line.split() for line in printed.splitlines()[1:] if line.startswith("ZTF ")]
    return {row[1]: row[3] for row in rows}


def test_list_changes_nothing(run: Any, tmp_path: Path) -> None:
    done = run("list")
    assert done.returncode == 0, done.stderr
    assert states(done.stdout) == {"good": "ready", "bad": "missing", "copied": "missing"}
    assert "there is no bad.v2.onnx in" in done.stdout
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["good.v1.onnx"]


def test_fetch_gets_what_it_can_and_names_what_it_can_not(run: Any, tmp_path: Path) -> None:
    done = run("fetch")
    assert done.returncode == 1
    assert "nowhere.onnx can't be fetched to" in done.stdout
    assert done.stderr.strip().endswith("alerts will have no score of bad")
    assert (tmp_path / "models" / "copied.v3.onnx").is_file()
    again = run("fetch", "good", "copied")
    assert again.returncode == 0, again.stderr


def test_check_scores_simulated_alerts(run: Any, tmp_path: Path) -> None:
    done = run("check")
    assert done.returncode == 1
    assert states(done.stdout) == {"good": "ready", "bad": "missing", "copied": "ready"}
    assert "scores of simulated alerts" in done.stdout
    (tmp_path / "models" / "good.v1.onnx").write_bytes(b"rubbish")
    spoiled = run("check", "good", "copied")
    assert spoiled.returncode == 1
    assert "is no valid ONNX file" in spoiled.stdout
    assert "Traceback" not in done.stderr + spoiled.stderr


def test_an_unknown_name_is_a_wrong_option(run: Any) -> None:
    done = run("check", "goood")
    assert done.returncode == 2
    assert "no model goood is declared; there are" in done.stderr
