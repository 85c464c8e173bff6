"""Making models ready: fetched where possible, converted once, and each failure told of the model it concerns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from kowalski.config import Settings
from kowalski.ml import conversion, files, ready
from kowalski.ml.scorer import Scorer
from kowalski.testing.services import free_ports

Tiny = Callable[..., Path]
Declare = Callable[..., Settings]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """Address under which the files of ``published/`` can be fetched."""
    folder = tmp_path / "published"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


class Steps(list[str]):
    """The names that progress was told, each once."""

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if name not in self:
            self.append(name)


def test_what_is_missing_is_fetched_once(tiny: Tiny, declare: Declare, published: str, tmp_path: Path) -> None:
    tiny("far").rename(tmp_path / "published" / "far.onnx")
    tiny("here")
    settings = declare(far={"url": f"{published}/far.onnx"}, here={"url": f"{published}/never-asked"})
    steps = Steps()
    assert [state.is_ready for state in ready.ensure_ready(settings, steps)] == [True, True]
    assert steps == ["far.v1.onnx"]
    again = Steps()
    assert [state.is_ready for state in ready.ensure_ready(settings, again)] == [True, True]
    assert again == []


def test_only_the_named_models_are_fetched(tiny: Tiny, declare: Declare, published: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny(name).rename(tmp_path / "published" / f"{name}.onnx")
    settings = declare(**{name: {"url": f"{published}/{name}.onnx"} for name in ("one", "two")})
    (state,) = ready.fetch_missing(settings, Steps(), ["two"])
    assert (state.name, state.is_ready) == ("two", True)
    assert [path.name for path in settings.path.models.iterdir()] == ["two.v1.onnx"]


def test_a_server_that_is_away_is_asked_once(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    settings = declare(**{name: {"url": f"http://127.0.0.1:{port}/{name}.onnx"} for name in ("one", "two", "three")})
    asked: list[str] = []
    fetch = ready.fetch

    def noted(url: str, *rest: Any) -> None:
        asked.append(url)
        fetch(url, *rest)

    monkeypatch.setattr(ready, "fetch", noted)
    states = ready.ensure_ready(settings, Steps())
    assert len(asked) == 1
    for state in states:
        assert not state.is_ready
        assert state.reason is not None
        assert state.reason.startswith(f"http://127.0.0.1:{port}/{state.name}.onnx can't be fetched to ")


def test_refused_declarations_are_among_the_states(tiny: Tiny, declare: Declare) -> None:
    tiny("good")
    settings = declare(good={}, bad={"triplet": False})
    found = {state.name: state for state in ready.states(settings)}
    assert found["good"].is_ready
    assert found["bad"].reason is not None
    assert "neither triplet nor features" in found["bad"].reason


@pytest.mark.parametrize("why", ["switched off", "not installed"])
def test_without_tensorflow_the_command_that_helps_is_named(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    settings = declare(keras={"format": "h5"})
    if why == "not installed":
        settings.ml.use_tensorflow = True
        monkeypatch.setattr(conversion, "PACKAGES", ("tensorflow_that_is_not_there",))
    settings.path.models.mkdir()
    (settings.path.models / "keras.v1.h5").write_bytes(b"weights")
    (state,) = ready.ensure_ready(settings, Steps())
    assert state.reason is not None
    assert "`USE_TENSORFLOW=True ./kowalski.py models check keras`" in state.reason
    expected = "ml.use_tensorflow is off here" if why == "switched off" else "can't be imported"
    assert expected in state.reason


@pytest.fixture(scope="session")
def tensorflow_models(tensorflow: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    script = Path(__file__).with_name("make_tensorflow_models.py")
    environment = os.environ | conversion.ENVIRONMENT
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True, capture_output=True)
    (folder / "rubbish.v1.h5").write_bytes(b"no weights")
    (folder / "empty.v1.tar").write_bytes(bytes(10240))
    return folder


def test_tensorflow_converts_each_format_and_names_each_failure(tensorflow_models: Path, declare: Declare) -> None:
    both = {"feature_names": ["ra", "age"]}
    settings = declare(
        rubbish={"format": "h5"},
        keras={"format": "h5", **both},
        fatal={"format": "h5", **both, "triplet": False},
        folder={"format": "pb", **both, "order": ["triplet", "features"]},
        twofold={"format": "pb", **both, "triplet": False},
        empty={"format": "pb"},
        tarred={"format": "pb", **both},
    )
    settings.ml.use_tensorflow = True
    settings.path.models = tensorflow_models
    steps = Steps()
    states = {state.name: state for state in ready.ensure_ready(settings, steps)}
    assert steps == [f"convert {name} v1" for name in states] + ["converted"]
    reasons = {name: state.reason for name, state in states.items() if not state.is_ready}
    assert set(reasons) == {"rubbish", "fatal", "twofold", "empty"}
    assert "Keras can't load" in str(reasons["rubbish"])
    assert str(reasons["fatal"]).startswith("fatal v1 can't be converted: ")
    assert "gives 2 outputs" in str(reasons["twofold"])
    assert "holds no saved_model.pb" in str(reasons["empty"])
    assert not any("\n" in str(reason) for reason in reasons.values())
    for name in ("keras", "folder", "tarred"):
        difference = states[name].difference
        assert difference is not None
        assert difference < 1e-6
    _scored(settings, {"keras", "folder", "tarred"})
    _noted(settings, states["keras"])


def _scored(settings: Settings, names: set[str]) -> None:
    """Without TensorFlow, the converted models score; the folder and its tar alike."""
    settings.ml.use_tensorflow = False
    scorer = Scorer.load(settings, "ZTF")
    assert set(scorer.loaded) == names
    random = np.random.default_rng(1)
    triplets = random.normal(0.0, 0.1, (3, 63, 63, 3)).astype(np.float32)
    results = scorer.score(triplets, np.ones(3, np.bool_), [{"ra": 0.1 * n, "age": 1.0 - n} for n in range(3)])
    for scores in results:
        assert scores["folder"] == pytest.approx(scores["tarred"], abs=1e-7)
        assert abs(float(scores["folder"]) - float(scores["keras"])) > 1e-3


def _noted(settings: Settings, state: ready.State) -> None:
    """A converted file tells where it comes from, and lies alone in the cache."""
    assert state.onnx is not None
    assert state.weights is not None
    notes = {entry.key: entry.value for entry in onnx.load(str(state.onnx)).metadata_props}
    assert notes["sha256"] == files.digest(state.weights)
    assert {"tensorflow", "tf2onnx", "difference"} <= set(notes)
    assert all(path.suffix == ".onnx" for path in files.cache_folder(settings).iterdir())
