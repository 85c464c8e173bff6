"""ONNX Runtime sessions: one merged graph, run in sub-batches on one thread.

One process per core with one thread each scores more alerts than threads do, and sessions with several threads each
spin against one another; so both thread pools are of one and never spin.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
    RuntimeException,
)

from kowalski.ml import samples
from kowalski.ml.graphs import Graph
from kowalski.ml.merge import OUTPUT, TRIPLET, FeatureKey, Merged, merge, mergeable
from kowalski.ml.samples import Floats
from kowalski.ml.specs import ModelError

__all__ = ["Session", "open_all"]

log = logging.getLogger("kowalski.ml")

Device = Literal["cpu", "cuda"]

SUB_BATCH = {"cpu": 8, "cuda": 128}
"""Alerts per run: on a CPU more would leave the cache, on a GPU fewer would leave it idle."""
TOLERANCE = 1e-6
"""Largest difference between scores of the merged graph and of each model on its own."""
PROBES = 4

RUNTIME_ERRORS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented, RuntimeException)


class Session:
    """Scores of the models of one graph.

    Parameters
    ----------
    merged
        The graph.
    device
        Where it runs; ``cuda`` falls back to the CPU if the installed ONNX Runtime has no CUDA.

    Raises
    ------
    ModelError
        If ONNX Runtime can't run the graph.
    """

    def __init__(self, merged: Merged, device: Device) -> None:
        self.members = merged.members
        self.features = merged.features
        self.takes_triplet = merged.takes_triplet
        self._step = SUB_BATCH[device] if merged.batch is None else merged.batch
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(merged.proto.SerializeToString(), options, providers=providers)
        except RUNTIME_ERRORS as error:
            raise ModelError(f"ONNX Runtime can't load it: {_first_line(error)}") from error

    def run(self, triplets: Floats | None, features: Mapping[FeatureKey, Floats], rows: NDArray[np.intp]) -> Floats:
        """Score the alerts at ``rows``.

        Parameters
        ----------
        triplets
            (n, 63, 63, 3); None if no member takes them.
        features
            (n, k) finite numbers for each list of features that a member takes.
        rows
            Which of the n alerts to score, ascending.

        Returns
        -------
        ndarray
            (len(rows), number of members) float32.
        """
        scores = np.empty((len(rows), len(self.members)), np.float32)
        for start in range(0, len(rows), self._step):
            chosen = _as_slice(rows[start : start + self._step])
            feed: dict[str, Any] = {name: features[key][chosen] for key, name in self.features.items()}
            if triplets is not None and self.takes_triplet:
                feed[TRIPLET] = triplets[chosen]
            scores[start : start + self._step] = self._session.run([OUTPUT], feed)[0]
        return scores


def open_all(graphs: Sequence[Graph], device: Device) -> tuple[list[Session], dict[str, str]]:
    """Open sessions for models, merging those that can be.

    Each model is tried on its own first, so that one which can't run is left out by name, and the merged graph must
    repeat what each one gives.

    Returns
    -------
    sessions : list of Session
        As few as possible.
    refused : dict
        Name of each model that can't be run, and why.
    """
    device = _available(device) if graphs else device
    refused: dict[str, str] = {}
    sessions: list[Session] = []
    for group in mergeable(graphs):
        alone: dict[str, Session] = {}
        for graph in group:
            try:
                alone[graph.spec.name] = _tried(Session(merge([graph]), device))
            except (ModelError, ValueError) as error:
                refused[graph.spec.name] = str(error)
        sound = [graph for graph in group if graph.spec.name in alone]
        sessions += _together(sound, list(alone.values()), device) if len(sound) > 1 else alone.values()
    return sessions, refused


def _together(graphs: Sequence[Graph], alone: list[Session], device: Device) -> list[Session]:
    try:
        merged = _tried(Session(merge(graphs), device))
    except (ModelError, ValueError) as error:
        log.warning("models are scored one by one, their merged graph can't be run: %s", error)
        return alone
    singly = np.hstack([_probe(session) for session in alone])
    if not np.allclose(_probe(merged), singly, rtol=0.0, atol=TOLERANCE, equal_nan=True):
        log.warning("models are scored one by one, their merged graph gives other scores")
        return alone
    return [merged]


def _tried(session: Session) -> Session:
    """Run a session once on made-up alerts."""
    try:
        _probe(session)
    except (*RUNTIME_ERRORS, ValueError) as error:
        raise ModelError(f"ONNX Runtime can't run it: {_first_line(error)}") from error
    return session


def _probe(session: Session) -> Floats:
    features = {key: samples.features(PROBES, len(key[0])) for key in session.features}
    return session.run(samples.triplets(PROBES), features, np.arange(PROBES))


def _available(device: Device) -> Device:
    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        log.warning("ml.device is cuda, but the installed ONNX Runtime has no CUDA; models run on the CPU")
        return "cpu"
    return device


def _as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Choose adjoining rows by a slice, which copies nothing."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
