"""``test``: run the project's tests."""

from __future__ import annotations

import subprocess
import sys

import typer

from kowalski.cli.console import output
from kowalski.config import PROJECT

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
PROCESSES = 3
"""For two cores: tests wait for servers a good part of their time."""
CAMPAIGNS = {"--faults": "kowalski.testing.faults", "--fuzz": "kowalski.testing.fuzz"}
"""What is no test but may find what tests do not, by the option that runs it."""
DOCKER = "--docker"
RESULTS = {
    0: "All tests passed.",
    1: "Some tests failed.",
    2: "The tests were interrupted.",
    4: "These options mean nothing to pytest.",
    5: "No test matches.",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings=PASS_THROUGH, add_help_option=False)(test)


def test(context: typer.Context) -> None:
    """Run all tests, or those that the arguments (pytest's own) choose, e.g. `test tests/config -k legacy`.

    `test --faults [N]` runs a fault campaign and `test --fuzz [N]` feeds rubbish to the decoder, as much as you like;
    both tell more with --help. With --docker everything runs in a container. All tests run in three processes side by
    side, each with servers of its own: most of the time a test waits.
    """
    if DOCKER in context.args:
        from kowalski.cli.console import settings
        from kowalski.runtime import compose

        compose.check()
        raise typer.Exit(compose.test(settings(), [each for each in context.args if each != DOCKER]))
    if context.args and context.args[0] in CAMPAIGNS:
        module = CAMPAIGNS[context.args[0]]
        done = subprocess.run([sys.executable, "-m", module, *context.args[1:]], check=False)
        raise typer.Exit(done.returncode)
    options = [] if context.args else ["-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *context.args], cwd=PROJECT, check=False)
    output().print(RESULTS.get(done.returncode, f"pytest ended with status {done.returncode}."))
    raise typer.Exit(done.returncode)
