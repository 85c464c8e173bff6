"""Making models ready to score: fetching what is missing and converting what only TensorFlow can read, once."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kowalski.config.settings import Settings
from kowalski.ml import conversion, files, specs
from kowalski.ml.fetch import FetchError, Progress, fetch
from kowalski.ml.files import Conversion, NotConvertedError
from kowalski.ml.specs import ModelError, Spec

__all__ = ["State", "ensure_ready", "fetch_missing", "states"]


@dataclass(frozen=True, slots=True)
class State:
    """What can be said of one declared model.

    Attributes
    ----------
    url
        Where the weights are published.
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
    url: str | None = None
    weights: Path | None = None
    onnx: Path | None = None
    reason: str | None = None
    difference: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the model can score."""
        return self.onnx is not None


def states(settings: Settings, only: Container[str] | None = None) -> list[State]:
    """Look at every declared model (or those named ``only``), changing nothing."""
    found: list[State] = []
    for survey in settings.ml.surveys:
        models = settings.ml.of(survey).models
        declared, refused = specs.declared(settings.ml, survey)
        found += [_look(settings, spec)[0] for spec in declared]
        found += [State(survey, name, models[name].version, reason=why) for name, why in refused.items()]
    return [state for state in found if only is None or state.name in only]


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
    failures: dict[tuple[str, str], str] = {}
    unreachable: dict[str, str] = {}
    for spec in _specs(settings, only):
        url = spec.declared.url
        if url is None or files.find(settings, spec) is not None:
            continue
        target = files.download_target(settings, spec)
        server = urlsplit(url).netloc
        try:
            if server in unreachable:  # asking again for every model would only make the operator wait
                raise FetchError(url, target, unreachable[server])
            fetch(url, target, spec.declared.sha256, progress)
        except FetchError as error:
            failures[spec.survey, spec.name] = str(error)
            if error.unreachable:
                unreachable[server] = error.reason
    return _with_reasons(states(settings, only), failures)


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
    fetched = fetch_missing(settings, progress, only)
    looks = [_look(settings, spec) for spec in _specs(settings, only)]
    waiting = [conversion for _, conversion in looks if conversion is not None]
    if not waiting:
        return fetched
    obstacle = _obstacle(settings)
    if obstacle is not None:
        late = {(job.spec.survey, job.spec.name): f"{NotConvertedError(job)} ({obstacle})" for job in waiting}
        return _with_reasons(fetched, late)
    failures: dict[tuple[str, str], str] = {
        (state.survey, state.name): state.reason for state in fetched if state.weights is None and state.reason
    }
    differences: dict[tuple[str, str], float] = {}
    for job, outcome in zip(waiting, conversion.convert_all(waiting, progress), strict=True):
        if isinstance(outcome, str):
            failures[job.spec.survey, job.spec.name] = outcome
        else:
            differences[job.spec.survey, job.spec.name] = outcome
    return [
        replace(state, difference=differences.get((state.survey, state.name)))
        for state in _with_reasons(states(settings, only), failures)
    ]


def _specs(settings: Settings, only: Container[str] | None) -> list[Spec]:
    found = [spec for survey in settings.ml.surveys for spec in specs.declared(settings.ml, survey)[0]]
    return [spec for spec in found if only is None or spec.name in only]


def _look(settings: Settings, spec: Spec) -> tuple[State, Conversion | None]:
    """Tell the state of a model, and what TensorFlow has to do for it."""
    found = files.find(settings, spec)
    state = State(spec.survey, spec.name, spec.version, url=spec.declared.url, weights=found)
    try:
        return replace(state, onnx=files.ready(settings, spec)), None
    except NotConvertedError as error:
        return replace(state, reason=str(error)), error.conversion
    except ModelError as error:
        return replace(state, reason=str(error)), None


def _with_reasons(found: list[State], reasons: dict[tuple[str, str], str]) -> list[State]:
    return [
        replace(state, reason=reasons[state.survey, state.name]) if (state.survey, state.name) in reasons else state
        for state in found
    ]


def _obstacle(settings: Settings) -> str | None:
    """Why TensorFlow can't convert models here."""
    if not settings.ml.use_tensorflow:
        return "ml.use_tensorflow is off here"
    absent = conversion.absent_packages()
    return f"here {' and '.join(absent)} can't be imported" if absent else None
