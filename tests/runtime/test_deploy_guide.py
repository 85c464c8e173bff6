"""The guide to deployment: each command of ours exists with its options, and each piece of configuration loads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from kowalski.cli.main import build, main
from kowalski.config import PROJECT, load

TEXT = (PROJECT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)
CONFIGURATION = [text for kind, text in BLOCKS if kind == "yaml"]
COMMANDS = re.findall(r"\./kowalski\.py ([^\n`]+)", TEXT)


@pytest.mark.parametrize("text", COMMANDS)
def test_commands_exist_with_their_options(text: str) -> None:
    words = shlex.split(text, comments=True)
    command = get_command(build())
    while words and not words[0].startswith("-"):
        context = command.make_context("kowalski", [], resilient_parsing=True)
        found = command.get_command(context, words.pop(0))  # type: ignore[attr-defined]
        assert found is not None, text
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    passes_on = command.context_settings.get("ignore_unknown_options", False)
    assert passes_on or set(words) <= known


@pytest.mark.parametrize("text", CONFIGURATION, ids=range(len(CONFIGURATION)))
def test_configuration_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert yaml.safe_load(text)
    load(file, {})


@pytest.mark.parametrize(("kind", "part"), [("slurm", "#SBATCH -p astro"), ("kubernetes", "kind: DaskCluster")])
def test_what_a_cluster_would_be_asked_for_is_shown(
    kind: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = [text for text in CONFIGURATION if f"kind: {kind}" in text]
    file = tmp_path / "config.yaml"
    file.write_text(f"{text}\npath: {{run: {tmp_path / 'run'}}}\n")
    assert "./kowalski.py run cluster --show" in TEXT
    assert main(["--config", str(file), "run", "cluster", "--show"]) == 0
    assert part in capsys.readouterr().out


def test_files_and_settings_that_it_names_exist() -> None:
    for name in re.findall(r"`((?:docker-compose[\w.]*|[\w.]*Dockerfile))`", TEXT):
        assert (PROJECT / name).is_file(), name
    settings = load(PROJECT / "config.defaults.yaml", {}).settings.model_dump()
    sections = "|".join(settings)
    for name in re.findall(rf"`((?:{sections})\.[\w.]+)`", TEXT):
        level = settings
        for part in name.split("."):
            assert part in level, name
            level = level[part]
    assert {"plain", "fritz", "traefik"} >= set(re.findall(r"variant: (\w+)", TEXT))
