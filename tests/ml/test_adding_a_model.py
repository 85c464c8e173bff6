"""The example of docs/adding-a-model.md, run as it is written."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from kowalski.config import PROJECT, load
from kowalski.config.settings import Model
from kowalski.ml.scorer import Scorer

PAGE = (PROJECT / "docs" / "adding-a-model.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def instance(tmp_path: Path) -> dict[str, str]:
    """Environment of an instance that the page's script and settings are applied to."""
    (tmp_path / "models").mkdir()
    (script,) = blocks("python")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    (declared,) = blocks("yaml")
    (tmp_path / "config.yaml").write_text(declared)
    return {
        "KOWALSKI_CONFIG": str(tmp_path / "config.yaml"),
        "KOWALSKI_PATH__MODELS": str(tmp_path / "models"),
        "KOWALSKI_PATH__RUN": str(tmp_path / "run"),
    }


def test_the_example_is_ready_by_the_command_it_names(instance: dict[str, str]) -> None:
    (command,) = (line for block in blocks("") for line in block.splitlines() if "models check" in line)
    arguments = command.split()[1:]
    run = subprocess.run(
        [sys.executable, "-m", "kowalski.cli", *arguments],
        env=os.environ | instance | {"COLUMNS": "300"}, cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    header, line = run.stdout.splitlines()
    (shown,) = (block.splitlines() for block in blocks("") if block.startswith("survey "))
    assert header.split() == shown[0].split()
    assert line.split()[:4] == shown[1].split()[:4] == ["ZTF", "contrast", "v1", "ready"]
    smallest, largest = float(line.split()[4]), float(line.split()[6])
    assert 0.2 < smallest < largest < 1.0, "as for alerts above the limiting magnitude"


def test_the_example_scores(instance: dict[str, str]) -> None:
    settings = load(environ=instance).settings
    scorer = Scorer.load(settings, "ZTF")
    assert scorer.loaded == {"contrast": "v1"}
    blank = np.zeros((1, 63, 63, 3), np.float32)
    (scores,) = scorer.score(blank, np.array([False]), [{"magpsf": 18.0, "diffmaglim": 20.0}])
    assert scores == {"contrast": pytest.approx(1 / (1 + math.exp(-2.0))), "contrast_version": "v1"}


def test_a_default_model_is_taken_away_as_said(tmp_path: Path) -> None:
    (line,) = (block for block in blocks("") if "null" in block)
    (tmp_path / "config.yaml").write_text(line)
    models = load(tmp_path / "config.yaml", environ={}).settings.ml.of("ZTF").models
    assert "bts" not in models
    assert "braai" in models
    assert yaml.safe_load(line)["ml"]["ZTF"]["models"] == {"bts": None}


def test_the_table_lists_every_key() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(listed) == set(Model.model_fields)
