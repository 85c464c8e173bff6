"""The guides name commands that there are."""

from __future__ import annotations

import re

import typer

from kowalski.cli import main
from kowalski.config import PROJECT

COMMAND = re.compile(r"\./kowalski\.py ([a-z]+)(?: ([a-z]+))?")


def test_every_command_that_a_guide_names_exists() -> None:
    root = typer.main.get_command(main.build())
    known = getattr(root, "commands")  # noqa: B009 - of click, or of the copy that typer carries
    for file in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("**/*.md"))]:
        for name, further in COMMAND.findall(file.read_text()):
            assert name in known, f"{file.name}: {name}"
            below = getattr(known[name], "commands", None)
            assert not (below and further) or further in below, f"{file.name}: {name} {further}"
