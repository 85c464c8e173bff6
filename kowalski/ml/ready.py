"""Making models ready to score: fetching what is missing and converting what only TensorFlow can read, once."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from kowalski.config.settings import Settings
from kowalski.ml import files, specs
from kowalski.ml.fetch import Progress, fetch
from kowalski.ml.files import NotConvertedError, WeightsMissingError
from kowalski.ml.specs import ModelError, Spec

__all__ = ["State", "ensure_ready", "fetch_missing", "states"]

NEEDED = ("tensorflow", "tf_keras", "tf2onnx")
QUIET = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
"""Environment of the conversion: the Keras that wrote the weights, no chatter, no GPU."""


@dataclass(frozen=True, slots=True)
class State:
    """What can be said of one declared model.

    Attributes
    ----------
    weights
        The file or folder as published, if it is there.
    onnx
        What is scored with; None if the model can't score, for ``reason``.
    difference
        Largest difference to TensorFlow's scores, of a model that was converted just now.
    """

    survey: str
    name: str
    version: str
    weights: Path | None = None
    onnx: Path | None = None
    reason: str | None = None
    difference: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the model can score."""
        return self.onnx is not None


def states(settings: Settings) -> list[State]:
    """Look at every declared model, changing nothing."""
    found: list[State] = []
    for survey in settings.ml.surveys:
        declared, refused = specs.declared(settings.ml, survey)
        found += [_look(settings, spec) for spec in declared]
        versions = settings.ml.of(survey).models
        found += [State(survey, name, versions[name].version, reason=why) for name, why in refused.items()]
    return found


def fetch_missing(settings: Settings, progress: Progress, only: Container[str] | None = None) -> list[State]:
    """Fetch the weights that are not there and have a ``url``.

    Parameters
    ----------
    settings
        Where models are declared and where they lie.
    progress
        Told what is being fetched.
    only
        Names of the models to fetch; all without it.

    Returns
    -------
    list of State
        The models that were looked for, fetched or not.
    """
    looked: list[State] = []
    for spec in _all_specs(settings):
        if only is not None and spec.name not in only:
            continue
        state = _look(settings, spec)
        if state.weights is None and spec.declared.url is not None:
            try:
                fetch(spec.declared.url, files.download_target(settings, spec), spec.declared.sha256, progress)
                state = _look(settings, spec)
            except ModelError as error:
                state = replace(state, reason=str(error))
        looked.append(state)
    return looked


def ensure_ready(settings: Settings, progress: Progress, only: Container[str] | None = None) -> list[State]:
    """Fetch and convert whatever is needed and possible, so that workers only have to load.

    Nothing that goes wrong here keeps alerts from being taken in: it is told by the states.

    Parameters
    ----------
    settings
        Where models are declared and where they lie.
    progress
        Told what is being fetched and converted.
    only
        Names of the models to make ready; all without it.
    """
    fetched = {(state.survey, state.name): state for state in fetch_missing(settings, progress, only)}
    waiting: list[Spec] = []
    for spec in _all_specs(settings):
        state = fetched.get((spec.survey, spec.name))
        if state is not None and _waits(settings, spec):
            waiting.append(spec)
    obstacle = _obstacle(settings)
    if waiting and obstacle is None:
        fetched |= _convert(settings, waiting, progress)
    elif waiting:
        for spec in waiting:
            state = fetched[spec.survey, spec.name]
            fetched[spec.survey, spec.name] = replace(state, reason=f"{state.reason}; {obstacle}")
    refused = [state for state in states(settings) if only is None or state.name in only]
    return [fetched.get((state.survey, state.name), state) for state in refused]


def _all_specs(settings: Settings) -> list[Spec]:
    return [spec for survey in settings.ml.surveys for spec in specs.declared(settings.ml, survey)[0]]


def _look(settings: Settings, spec: Spec) -> State:
    state = State(spec.survey, spec.name, spec.version, weights=files.find(settings, spec))
    try:
        return replace(state, onnx=files.ready(settings, spec))
    except ModelError as error:
        return replace(state, reason=str(error))


def _waits(settings: Settings, spec: Spec) -> bool:
    try:
        files.ready(settings, spec)
    except NotConvertedError:
        return True
    except ModelError:
        return False
    return False


def _obstacle(settings: Settings) -> str | None:
    """Why TensorFlow can't convert models here."""
    if not settings.ml.use_tensorflow:
        return "ml.use_tensorflow is off"
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} is not installed" if absent else None


def _convert(settings: Settings, waiting: list[Spec], progress: Progress) -> dict[tuple[str, str], State]:
    """Convert models in one process of their own, so that TensorFlow is loaded once and is gone afterwards."""
    jobs = []
    for spec in waiting:
        weights = files.find(settings, spec)
        if weights is None:
            raise WeightsMissingError(f"the weights of {spec.label} were there a moment ago")
        checksum = files.verify(weights, spec)
        target = files.converted(settings, spec, checksum)
        job = {"source": weights, "target": target, "format": spec.declared.format, "origin": checksum}
        jobs.append(json.dumps({key: str(value) for key, value in job.items()}))
    found: dict[tuple[str, str], State] = {}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        command = [sys.executable, "-m", "kowalski.ml.convert"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | QUIET,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n".join(jobs) + "\n")
            process.stdin.close()
            for number, spec in enumerate(waiting):
                progress(f"convert {spec.label}", number, len(waiting))
                answer = process.stdout.readline()
                found[spec.survey, spec.name] = _answered(settings, spec, answer, errors)
        progress("converted", len(waiting), len(waiting))
    return found


def _answered(settings: Settings, spec: Spec, answer: str, errors: IO[str]) -> State:
    state = _look(settings, spec)
    if not answer:
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
        return replace(state, reason=f"the conversion of {spec.label} ended early: {' '.join(last) or 'killed'}")
    result = json.loads(answer)
    if "error" in result:
        return replace(state, reason=f"{spec.label} can't be converted: {result['error']}")
    return replace(state, difference=result["difference"])
