"""Having weights converted by `kowalski.ml.convert`, in a process that ends when it is done.

TensorFlow takes 600 MB and seconds to load, so one process does all conversions. A model on which it dies is named, and
the next process goes on with the rest.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from kowalski.ml.fetch import Progress
from kowalski.ml.files import Conversion

__all__ = ["Outcome", "absent_packages", "convert_all"]

PACKAGES = ("tensorflow", "tf_keras", "tf2onnx")
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
"""The Keras that wrote the weights, no chatter, no GPU."""

Outcome = float | str
"""Largest difference to TensorFlow's scores, or why the model can't be converted."""


def absent_packages() -> list[str]:
    """Which packages that a conversion needs are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def convert_all(conversions: Sequence[Conversion], progress: Progress) -> list[Outcome]:
    """Convert weights; one outcome each, in order.

    Parameters
    ----------
    conversions
        What is to be done.
    progress
        Told before each one, and at the end.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(conversions):  # each turn settles at least one
        left = conversions[len(outcomes) :]
        with tempfile.TemporaryFile("w+", errors="replace") as complaints:
            answers = _answers(left, complaints.fileno())
            for conversion in left:
                progress(f"convert {conversion.spec.label}", len(outcomes), len(conversions))
                answer = next(answers, None)
                if answer is None:
                    complaints.seek(0)
                    last = complaints.read().strip().splitlines()[-1:] or ["it was killed"]
                    outcomes.append(f"{conversion.spec.label} can't be converted: {last[0]}")
                    break
                failed = answer.get("error")
                outcomes.append(
                    f"{conversion.spec.label} can't be converted: {failed}" if failed else float(answer["difference"])
                )
            answers.close()
    progress("converted", len(outcomes), len(conversions))
    return outcomes


def _answers(conversions: Sequence[Conversion], complaints: int) -> Generator[dict[str, str]]:
    """Run the process and pass its answers on as they come; they end early if it dies."""
    jobs = [
        {
            "source": str(conversion.source),
            "target": str(conversion.target),
            "format": conversion.spec.declared.format,
            "origin": conversion.checksum,
        }
        for conversion in conversions
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "kowalski.ml.convert", *map(json.dumps, jobs)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        env=os.environ | ENVIRONMENT,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
