"""Several models as one graph.

Alerts are scored faster by one graph than by a session per model, and in half the memory: inputs are handed over once,
work on them that models have in common is done once, and there is one set of buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from kowalski.ml.graphs import Graph
from kowalski.ml.specs import Spec

__all__ = ["OUTPUT", "TRIPLET", "FeatureKey", "Merged", "feature_key", "merge", "mergeable"]

TRIPLET = "triplet"
OUTPUT = "scores"

FeatureKey = tuple[tuple[str, ...], tuple[float, ...]]
"""Names and norms of features: models that agree in both are fed the same array."""


@dataclass(frozen=True, slots=True)
class Merged:
    """One graph that gives the scores of several models.

    Attributes
    ----------
    proto
        Takes ``triplet`` (n, 63, 63, 3) and the ``features`` inputs (n, k); gives ``scores`` (n, number of members).
    members
        The models, in the order of the scores.
    features
        Name of the input for each list of features.
    batch
        How many alerts it takes at once; None for any number.
    """

    proto: onnx.ModelProto
    members: tuple[Spec, ...]
    takes_triplet: bool
    features: dict[FeatureKey, str]
    batch: int | None


def feature_key(spec: Spec) -> FeatureKey:
    """Which features a model takes, and how they are scaled."""
    return spec.features, spec.norms


def mergeable(graphs: Iterable[Graph]) -> list[list[Graph]]:
    """Group models that can share a graph: the same operator versions and batch, and a triplet all or none."""
    groups: dict[object, list[Graph]] = {}
    for graph in graphs:
        versions = frozenset((operators.domain, operators.version) for operators in graph.proto.opset_import)
        groups.setdefault((versions, graph.triplet is None, graph.batch), []).append(graph)
    return list(groups.values())


def merge(graphs: Sequence[Graph]) -> Merged:
    """Put models of one group of `mergeable` into one graph.

    Raises
    ------
    ValueError
        If a graph is not consistent in itself.
    """
    features: dict[FeatureKey, str] = {}
    whole = onnx.GraphProto(name="models")
    functions: list[onnx.FunctionProto] = []
    scores: list[str] = []
    for number, graph in enumerate(graphs):
        prefix = f"m{number}/"
        part = compose.add_prefix(graph.proto, prefix)
        whole.node.extend(_feed(graph, part, prefix, features))
        whole.node.extend(part.graph.node)
        whole.node.extend(_column(part, number))
        whole.initializer.extend(part.graph.initializer)
        whole.sparse_initializer.extend(part.graph.sparse_initializer)
        functions += part.functions
        scores.append(f"column_{number}")
    whole.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "column_shape"))
    whole.node.append(helper.make_node("Concat", scores, [OUTPUT], axis=1))
    return _assemble(graphs, features, whole, functions)


def _feed(graph: Graph, part: onnx.ModelProto, prefix: str, features: dict[FeatureKey, str]) -> list[onnx.NodeProto]:
    """Lead the shared inputs to those of one model, in the number type it wants."""
    given = {value.name: value for value in part.graph.input}
    nodes = []
    if graph.triplet is not None:
        nodes.append(_cast(TRIPLET, given[prefix + graph.triplet]))
    if graph.features is not None:
        shared = features.setdefault(feature_key(graph.spec), f"features_{len(features)}")
        target = given[prefix + graph.features]
        if graph.feature_axes == 3:
            part.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), f"{prefix}third_axis"))
            nodes.append(helper.make_node("Unsqueeze", [shared, f"{prefix}third_axis"], [f"{prefix}three_axes"]))
            shared = f"{prefix}three_axes"
        nodes.append(_cast(shared, target))
    return nodes


def _cast(name: str, target: onnx.ValueInfoProto) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [target.name], to=target.type.tensor_type.elem_type)


def _column(part: onnx.ModelProto, number: int) -> list[onnx.NodeProto]:
    """Turn one model's score, (n,) or (n, 1), into a column of float32."""
    score = part.graph.output[0].name
    return [
        helper.make_node("Cast", [score], [f"single_{number}"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", [f"single_{number}", "column_shape"], [f"column_{number}"]),
    ]


def _assemble(
    graphs: Sequence[Graph],
    features: dict[FeatureKey, str],
    whole: onnx.GraphProto,
    functions: list[onnx.FunctionProto],
) -> Merged:
    takes_triplet, batch = graphs[0].triplet is not None, graphs[0].batch
    axis = "n" if batch is None else batch
    whole.input.extend(_value(name, [axis, len(names)]) for (names, _), name in features.items())
    if takes_triplet:
        whole.input.append(_value(TRIPLET, [axis, 63, 63, 3]))
    whole.output.append(_value(OUTPUT, [axis, len(graphs)]))
    proto = helper.make_model(whole, opset_imports=graphs[0].proto.opset_import, functions=functions)
    proto.ir_version = max(graph.proto.ir_version for graph in graphs)
    return Merged(proto, tuple(graph.spec for graph in graphs), takes_triplet, features, batch)


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
