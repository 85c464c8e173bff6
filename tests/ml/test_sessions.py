"""Models in one graph give what each gives on its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from kowalski.config import Settings
from kowalski.ml import files, graphs, sessions
from kowalski.ml.graphs import Graph
from kowalski.ml.merge import Merged, feature_key, merge, mergeable
from kowalski.ml.specs import declared

Tiny = Callable[..., Path]
Declare = Callable[..., Settings]

MODELS: dict[str, dict[str, Any]] = {
    "images": {"bias": 0.1},
    "both": {"features": 2, "bias": -0.3},
    "swapped": {"features": 2, "bias": 0.2, "reverse": True, "names": ("x", "y")},
    "others": {"features": 3, "bias": -1.0},
    "third_axis": {"features": 2, "bias": 0.4, "axes": 3},
    "double": {"features": 2, "bias": 0.5, "kind": TensorProto.DOUBLE},
    "flat": {"bias": 0.6, "flat": True},
    "numbers": {"triplet": False, "features": 2, "bias": 0.7},
    "one_by_one": {"features": 2, "bias": 0.8, "batch": 1},
    "older": {"features": 2, "bias": 0.9, "opset": 17},
}
FEATURES = {0: False, 2: ["ra", "age"], 3: ["age", "ra", "magpsf"]}


@pytest.fixture
def loaded(tiny: Tiny, declare: Declare) -> list[Graph]:
    for name, options in MODELS.items():
        tiny(name, **options)
    settings = declare(
        **{
            name: {"triplet": options.get("triplet", True), "feature_names": FEATURES[options.get("features", 0)]}
            for name, options in MODELS.items()
        }
    )
    specs, refused = declared(settings.ml, "ZTF")
    assert not refused
    return [graphs.read(spec, files.ready(settings, spec)) for spec in specs]


def alerts(count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    triplets = random.normal(0.0, 0.01, (count, 63, 63, 3)).astype(np.float32)
    columns = {name: random.normal(size=count).astype(np.float32) for name in ("ra", "age", "magpsf")}
    return triplets, columns


def matrices(found: list[Graph], columns: dict[str, np.ndarray]) -> dict[Any, np.ndarray]:
    keys = {feature_key(graph.spec) for graph in found if graph.spec.features}
    return {key: np.column_stack([columns[name] for name in key[0]]) for key in keys}


def expected(graph: Graph, triplets: np.ndarray, columns: dict[str, np.ndarray]) -> np.ndarray:
    """The score by the model's own formula."""
    total = np.full(len(triplets), MODELS[graph.spec.name]["bias"], np.float64)
    if graph.triplet is not None:
        total += triplets.sum(axis=(1, 2, 3), dtype=np.float64)
    for name in graph.spec.features:
        total += columns[name]
    return 1.0 / (1.0 + np.exp(-total))


@pytest.mark.parametrize("count", [1, 2, 8, 21])
def test_every_kind_of_model_gives_its_own_score(loaded: list[Graph], count: int) -> None:
    triplets, columns = alerts(count)
    features = matrices(loaded, columns)
    opened, refused = sessions.open_all(loaded, "cpu")
    assert not refused
    by_name = {graph.spec.name: graph for graph in loaded}
    seen = set()
    for session in opened:
        scores = session.run(triplets, features, np.arange(count))
        assert scores.dtype == np.float32
        for column, spec in enumerate(session.members):
            seen.add(spec.name)
            np.testing.assert_allclose(scores[:, column], expected(by_name[spec.name], triplets, columns), atol=2e-6)
    assert seen == set(by_name)


def test_as_few_graphs_as_possible(loaded: list[Graph]) -> None:
    groups = [{graph.spec.name for graph in group} for group in mergeable(loaded)]
    together = {"images", "both", "swapped", "others", "third_axis", "double", "flat"}
    assert sorted(groups, key=len, reverse=True) == [together, {"numbers"}, {"one_by_one"}, {"older"}]


def test_chosen_rows_are_scored_in_order(loaded: list[Graph]) -> None:
    triplets, columns = alerts(20)
    features = matrices(loaded, columns)
    (session, *_), _ = sessions.open_all(loaded, "cpu")
    whole = session.run(triplets, features, np.arange(20))
    rows = np.array([0, 1, 2, 5, 7, 11, 12, 13, 14, 15, 16, 19])
    np.testing.assert_allclose(session.run(triplets, features, rows), whole[rows], atol=1e-7)
    assert session.run(triplets, features, np.array([], np.intp)).shape == (0, len(session.members))


def test_a_merged_graph_that_differs_is_not_used(
    loaded: list[Graph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spoiled(group: Sequence[Graph]) -> Merged:
        merged = merge(group)
        if len(group) > 1:
            bias = next(weight for weight in merged.proto.graph.initializer if weight.name == "m0/bias")
            bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.1, bias.name))
        return merged

    monkeypatch.setattr(sessions, "merge", spoiled)
    opened, refused = sessions.open_all(loaded, "cpu")
    assert not refused
    assert sorted(len(session.members) for session in opened) == [1] * len(loaded)
    assert "scored one by one" in caplog.text


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a GPU here")
def test_cuda_that_is_not_there_is_warned_of_once(loaded: list[Graph], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kowalski.ml"):
        opened, refused = sessions.open_all(loaded, "cuda")
    assert not refused
    assert opened
    assert [record.message for record in caplog.records if "cuda" in record.message] == [
        "ml.device is cuda, but the installed ONNX Runtime has no CUDA; models run on the CPU"
    ]
