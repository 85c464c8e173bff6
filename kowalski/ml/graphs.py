"""ONNX graphs of single models: what each takes and gives, told by the shapes of its inputs.

Models name and order their inputs as their authors liked, and a converted model not always as its authors did. So the
shapes tell which is which: an input of four axes is the triplet, one of two (or three, the last of length 1) the
features. The declared ``order`` is not needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from kowalski.ml.specs import ModelError, Spec

__all__ = ["Graph", "read"]

Shape = tuple[int | None, ...]
"""Lengths of axes, None where any length goes."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A model as ONNX.

    Attributes
    ----------
    triplet, features
        Names of its inputs; None if it has no such input.
    feature_axes
        Number of axes of the features: 2 for (n, k), 3 for (n, k, 1).
    output
        Name of the score, (n, 1) or (n,).
    batch
        How many alerts it takes at once; None for any number.
    """

    spec: Spec
    proto: onnx.ModelProto
    triplet: str | None
    features: str | None
    feature_axes: int
    output: str
    batch: int | None


def read(spec: Spec, path: Path) -> Graph:
    """Read a model's ONNX file.

    Raises
    ------
    ModelError
        If it is no ONNX file, or its inputs and output are not those declared.
    """
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{path} is no valid ONNX file: {str(error).splitlines()[0]}") from error
    inputs = _inputs(proto)
    triplet, features = _roles(spec, inputs)
    _check(spec, inputs, triplet, features)
    if len(proto.graph.output) != 1:
        raise ModelError(f"it gives {len(proto.graph.output)} outputs, one is needed")
    output = proto.graph.output[0]
    if len(_shape(output)) > 1 and _shape(output)[-1] not in (1, None):
        raise ModelError(f"it gives {_shape(output)[-1]} numbers per alert, one score is needed")
    axes = len(inputs[features]) if features is not None else 2
    batches = {shape[0] for shape in inputs.values()}
    return Graph(spec, proto, triplet, features, axes, output.name, batches.pop() if len(batches) == 1 else None)


def _inputs(proto: onnx.ModelProto) -> dict[str, Shape]:
    """Shape of each input; weights may be listed among the inputs in files of old versions."""
    weights = {weight.name for weight in proto.graph.initializer}
    return {given.name: _shape(given) for given in proto.graph.input if given.name not in weights}


def _shape(value: onnx.ValueInfoProto) -> Shape:
    axes = value.type.tensor_type.shape.dim
    return tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in axes)


def _roles(spec: Spec, inputs: dict[str, Shape]) -> tuple[str | None, str | None]:
    """Tell which input is the triplet and which are the features."""
    wanted = (["triplet"] if spec.declared.triplet else []) + (["features"] if spec.features else [])
    images = [name for name, shape in inputs.items() if len(shape) == 4]
    numbers = [name for name, shape in inputs.items() if len(shape) != 4]
    if len(images) != wanted.count("triplet") or len(numbers) != wanted.count("features"):
        found = ", ".join(f"{name} {_text(shape)}" for name, shape in inputs.items())
        raise ModelError(f"it takes {found or 'no inputs'}; declared are {' and '.join(wanted)}")
    return next(iter(images), None), next(iter(numbers), None)


def _check(spec: Spec, inputs: dict[str, Shape], triplet: str | None, features: str | None) -> None:
    """Compare the shapes of the inputs with what they will be fed."""
    if triplet is not None and not _fits(inputs[triplet], (63, 63, 3)):
        raise ModelError(f"its triplet has the shape {_text(inputs[triplet])}, not (n, 63, 63, 3)")
    if features is not None:
        count = len(spec.features)
        if not any(_fits(inputs[features], per_alert) for per_alert in ((count,), (count, 1))):
            raise ModelError(f"its features have the shape {_text(inputs[features])}, {count} names are declared")
    fixed = {shape[0] for shape in inputs.values()} - {None, 1}
    if fixed:
        raise ModelError(f"it takes {fixed.pop()} alerts at a time; export it for any number")


def _fits(shape: Shape, per_alert: tuple[int, ...]) -> bool:
    """Whether an input of that shape takes ``per_alert`` numbers of each alert."""
    if len(shape) != 1 + len(per_alert):
        return False
    return all(length in (None, size) for length, size in zip(shape[1:], per_alert, strict=True))


def _text(shape: Shape) -> str:
    return f"({', '.join('n' if axis is None else str(axis) for axis in shape)})"
