"""TensorFlow weights to ONNX: the only module that imports TensorFlow, run as ``python -m kowalski.ml.convert``.

Each argument is a job, a JSON object (``source``, ``target``, ``format`` and, to be noted in the result, the weights'
SHA-256 as ``origin``); each is answered in turn by one line: ``{"difference": d}`` or ``{"error": sentence}``.
A converted file comes to be under its name only if it repeats TensorFlow's own scores.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from kowalski.ml import samples
from kowalski.ml.archives import unpack
from kowalski.ml.files import SAVED_MODEL
from kowalski.ml.specs import ModelError

OPSET = 18
TOLERANCE = 1e-5
"""Largest difference to TensorFlow's scores with which a conversion is accepted."""
SAMPLES = 16
TOOLS = ("tensorflow", "tf-keras", "tf2onnx", "onnx")


def main() -> None:
    """Do every job of the command line."""
    for argument in sys.argv[1:]:
        try:
            answer: dict[str, Any] = {"difference": convert(json.loads(argument))}
        except ModelError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def convert(job: dict[str, str]) -> float:
    """Convert one model; give the largest difference between TensorFlow's and ONNX Runtime's scores.

    Raises
    ------
    ModelError
        If the weights can't be loaded or converted, or the scores differ by more than `TOLERANCE`.
    """
    target = Path(job["target"])
    with _loaded(Path(job["source"]), job["format"]) as (function, inputs):
        proto = _export(function, inputs)
        difference = _difference(function, inputs, proto)
    if not difference <= TOLERANCE:
        raise ModelError(f"its ONNX form differs from TensorFlow by {difference:.1e}, more than {TOLERANCE:.0e}")
    notes = {tool: importlib.metadata.version(tool) for tool in TOOLS}
    onnx.helper.set_model_props(proto, {**notes, "sha256": job["origin"], "difference": f"{difference:.1e}"})
    _write(proto, target)
    return difference


Function = Callable[..., Any]


@contextmanager
def _loaded(source: Path, form: str) -> Iterator[tuple[Function, list[Any]]]:
    """Load weights as a function of tensors, with the specifications of its inputs in order."""
    if form == "h5":
        yield _load_keras(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        if source.is_file():
            unpack(source, Path(folder))
        roots = sorted(
            (source if source.is_dir() else Path(folder)).glob(f"**/{SAVED_MODEL}"), key=lambda p: len(p.parts)
        )
        if not roots:
            raise ModelError(f"{source} holds no {SAVED_MODEL}")
        yield _load_saved_model(roots[0].parent)


def _load_keras(source: Path) -> tuple[Function, list[Any]]:
    import tensorflow as tf
    import tf_keras

    try:
        model = tf_keras.models.load_model(source, compile=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"Keras can't load {source}: {_one_line(error)}") from error
    inputs = [tf.TensorSpec(given.shape, given.dtype, name=given.name.split(":")[0]) for given in model.inputs]

    def call(*tensors: Any) -> Any:
        return model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)

    return tf.function(call, input_signature=inputs), inputs


def _load_saved_model(folder: Path) -> tuple[Function, list[Any]]:
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(folder))
        signature = model.signatures["serving_default"]
    except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError) as error:
        raise ModelError(f"TensorFlow can't load the SavedModel: {_one_line(error)}") from error
    if len(signature.structured_outputs) != 1:
        raise ModelError(f"it gives {len(signature.structured_outputs)} outputs, one is needed")
    inputs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in signature.structured_input_signature[1].items()
    ]

    def call(*tensors: Any) -> Any:
        # Inputs are fed by name: a signature's order is not that in which they were declared.
        results = signature(**{spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)})
        return next(iter(results.values()))

    call.keep = model  # type: ignore[attr-defined]  # the variables live only as long as the loaded object
    return tf.function(call, input_signature=inputs), inputs


def _export(function: Function, inputs: list[Any]) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx

    try:
        converted = tf2onnx.convert.from_function(function, input_signature=inputs, opset=OPSET)
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, tf.errors.OpError) as error:
        raise ModelError(f"tf2onnx can't convert it: {_one_line(error)}") from error
    proto: onnx.ModelProto = converted[0]
    onnx.checker.check_model(proto)
    return proto


def _difference(function: Function, inputs: list[Any], proto: onnx.ModelProto) -> float:
    """Largest difference of scores of made-up alerts."""
    import tensorflow as tf

    given = [
        samples.triplets(SAMPLES) if len(spec.shape) == 4 else samples.features(SAMPLES, int(spec.shape[1]))
        for spec in inputs
    ]
    shaped = [
        array.reshape(SAMPLES, *(int(axis) for axis in spec.shape[1:]))
        for array, spec in zip(given, inputs, strict=True)
    ]
    expected = np.ravel(function(*(tf.constant(array, spec.dtype) for array, spec in zip(shaped, inputs, strict=True))))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    found = np.ravel(session.run(None, dict(zip(names, shaped, strict=True)))[0])
    return float(np.abs(found - expected).max())


def _write(proto: onnx.ModelProto, target: Path) -> None:
    """Put the file under its name at once and whole."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
            part = Path(folder) / target.name
            part.write_bytes(proto.SerializeToString())
            part.replace(target)
    except OSError as error:
        raise ModelError(f"its ONNX form can't be written to {target}: {error.strerror}") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"


if __name__ == "__main__":
    main()
