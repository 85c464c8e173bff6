"""Tiny models made on the spot, settings that declare them, and the real models where they are to be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kowalski.config import Settings, load
from kowalski.ml import conversion, ready

Tiny = Callable[..., Path]
Declare = Callable[..., Settings]


def tiny_model(
    *,
    triplet: bool = True,
    features: int = 0,
    bias: float = 0.0,
    opset: int = 18,
    batch: int | str = "n",
    axes: int = 2,
    kind: int = TensorProto.FLOAT,
    names: tuple[str, str] = ("images", "numbers"),
    reverse: bool = False,
    flat: bool = False,
    divide_by_zero: bool = False,
) -> onnx.ModelProto:
    """A model whose score is sigmoid(sum of the triplet + sum of the features + bias).

    ``axes`` 3 takes features of shape (n, k, 1); ``flat`` gives scores of shape (n,); ``reverse`` takes the triplet
    first; ``divide_by_zero`` makes every score infinite.
    """
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    inputs, nodes, sums = [], [], ["bias"]
    if features:
        shape = [batch, features, 1][:axes]
        inputs.append(helper.make_tensor_value_info(names[1], kind, shape))
        nodes.append(helper.make_node("Reshape", [names[1], "rows"], ["flat_numbers"]))
        nodes.append(helper.make_node("ReduceSum", ["flat_numbers", "second"], ["of_numbers"], keepdims=1))
        sums.append("of_numbers")
    if triplet:
        inputs.append(helper.make_tensor_value_info(names[0], kind, [batch, 63, 63, 3]))
        nodes.append(helper.make_node("Flatten", [names[0]], ["flat_images"]))
        nodes.append(helper.make_node("ReduceSum", ["flat_images", "second"], ["of_images"], keepdims=1))
        sums.append("of_images")
    if reverse:
        inputs.reverse()
    nodes.append(helper.make_node("Sum", sums, ["sum"]))
    nodes.append(helper.make_node("Sigmoid", ["sum"], ["sigmoid"]))
    nodes.append(helper.make_node("Div", ["sigmoid", "divisor"], ["column"]))
    nodes.append(helper.make_node("Reshape", ["column", "shape"], ["score"]))
    weights = {
        "bias": np.array([[bias]], dtype),
        "second": np.array([1], np.int64),
        "rows": np.array([-1, max(features, 1)], np.int64),
        "divisor": np.array([[0.0 if divide_by_zero else 1.0]], dtype),
        "shape": np.array([-1] if flat else [-1, 1], np.int64),
    }
    output = helper.make_tensor_value_info("score", kind, [batch] if flat else [batch, 1])
    graph = helper.make_graph(
        nodes, "tiny", inputs, [output], [numpy_helper.from_array(array, name) for name, array in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Write a tiny model as ``models/<name>.<version>.onnx``; options as of `tiny_model`."""

    def write(name: str, version: str = "v1", **options: Any) -> Path:
        path = tmp_path / "models" / f"{name}.{version}.onnx"
        path.parent.mkdir(exist_ok=True)
        onnx.save(tiny_model(**options), str(path))
        return path

    return write


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    """Settings that declare models for ZTF (as keywords), their files in ``models/``, TensorFlow off."""

    def make(allowed: tuple[str, ...] = ("magpsf", "ra", "age"), **models: dict[str, Any]) -> Settings:
        declared = {name: {"version": "v1", "format": "onnx", **model} for name, model in models.items()}
        return Settings.model_validate(
            {
                "path": {"models": tmp_path / "models", "run": tmp_path / "run"},
                "ml": {"use_tensorflow": False, "ZTF": {"allowed_features": allowed, "models": declared}},
            }
        )

    return make


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """Skips tests of conversions where TensorFlow is not installed."""
    absent = conversion.absent_packages()
    if absent:
        pytest.skip(f"{', '.join(absent)} can't be imported")


@pytest.fixture(scope="session")
def real_models(
    sample_data: Path, tensorflow: None, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The default models, converted once for the session."""
    settings = load(environ={}).settings
    settings.path.models = weights
    settings.path.run = tmp_path_factory.mktemp("run")
    for state in ready.ensure_ready(settings, lambda name, done, total: None):
        assert state.is_ready, state.reason
    return settings
