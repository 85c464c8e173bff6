"""What is read of a model's file: which input is which, and what can't be scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from kowalski.config import Settings
from kowalski.ml.graphs import Graph, read
from kowalski.ml.specs import ModelError, declared

Tiny = Callable[..., Path]
Declare = Callable[..., Settings]


def graph_of(declare: Declare, path: Path, **model: Any) -> Graph:
    (spec,), _ = declared(declare(tiny=model).ml, "ZTF")
    return read(spec, path)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("order", [["features", "triplet"], ["triplet", "features"]])
def test_shapes_tell_the_inputs_whatever_their_order(
    tiny: Tiny, declare: Declare, reverse: bool, order: list[str]
) -> None:
    path = tiny("tiny", features=2, reverse=reverse, names=("b", "a"))
    found = graph_of(declare, path, feature_names=["ra", "age"], order=order)
    assert (found.triplet, found.features, found.feature_axes, found.batch) == ("b", "a", 2, None)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("batch", ["n", 1])
def test_features_may_have_a_third_axis_and_alerts_come_singly(
    tiny: Tiny, declare: Declare, axes: int, batch: int | str
) -> None:
    path = tiny("tiny", triplet=False, features=3, axes=axes, batch=batch)
    found = graph_of(declare, path, triplet=False, feature_names=True)
    assert (found.feature_axes, found.batch, found.triplet) == (axes, 1 if batch == 1 else None, None)


@pytest.mark.parametrize(
    ("made", "model", "reason"),
    [
        ({}, {"feature_names": ["ra"]}, r"takes images \(n, 63, 63, 3\); declared are triplet and features"),
        ({"features": 2}, {}, r"takes numbers \(n, 2\), images \(n, 63, 63, 3\); declared are triplet$"),
        ({"features": 2}, {"feature_names": ["ra"]}, r"shape \(n, 2\), 1 names are declared"),
        ({"batch": 7}, {}, "takes 7 alerts at a time"),
    ],
)
def test_what_differs_from_the_declaration_is_named(
    tiny: Tiny, declare: Declare, made: dict[str, Any], model: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        graph_of(declare, tiny("tiny", **made), **model)


def test_stamps_of_another_size_are_refused(tiny: Tiny, declare: Declare) -> None:
    path = tiny("tiny")
    proto = onnx.load(str(path))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 61
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match=r"shape \(n, 61, 63, 3\), not \(n, 63, 63, 3\)"):
        graph_of(declare, path)


def test_two_outputs_are_refused(tiny: Tiny, declare: Declare) -> None:
    path = tiny("tiny")
    proto = onnx.load(str(path))
    proto.graph.output.append(helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, ["n", 1]))
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match="gives 2 outputs"):
        graph_of(declare, path)


def test_several_classes_are_refused(tiny: Tiny, declare: Declare) -> None:
    path = tiny("tiny")
    proto = onnx.load(str(path))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match="gives 5 numbers per alert"):
        graph_of(declare, path)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x07"])
def test_other_files_are_refused(declare: Declare, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tiny.v1.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no valid ONNX file") as caught:
        graph_of(declare, path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_named(declare: Declare, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read: No such file"):
        graph_of(declare, tmp_path / "tiny.v1.onnx")
