"""Weights on disk: where a model's file lies, whether it is the one declared, and where its converted form is kept."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kowalski.config.settings import Settings
from kowalski.ml.specs import ModelError, Spec

__all__ = [
    "ENDINGS",
    "SAVED_MODEL",
    "Conversion",
    "NotConvertedError",
    "WeightsMissingError",
    "cache_folder",
    "converted",
    "digest",
    "download_target",
    "find",
    "ready",
    "verify",
]

ENDINGS = {"h5": (".h5", ".hdf5"), "pb": ("", ".tar", ".tar.gz", ".tgz"), "onnx": (".onnx",)}
"""Endings of the files of each format; "" is a SavedModel folder."""
SAVED_MODEL = "saved_model.pb"
"""The file by which a SavedModel folder is known."""
CONVERSION = 1
"""Counts the ways in which weights have been converted: raised when the conversion changes its result."""


class WeightsMissingError(ModelError):
    """There is no file of the model's weights."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What TensorFlow is to do: read ``source`` (SHA-256 ``checksum``) and write its ONNX form to ``target``."""

    spec: Spec
    source: Path
    checksum: str
    target: Path


class NotConvertedError(ModelError):
    """The weights are there, but TensorFlow has not converted them yet; ``conversion`` is what it has to do."""

    def __init__(self, conversion: Conversion) -> None:
        name = conversion.spec.name
        super().__init__(
            f"{conversion.source} is not converted yet; `USE_TENSORFLOW=True ./kowalski.py models check {name}` does it"
        )
        self.conversion = conversion


def find(settings: Settings, spec: Spec) -> Path | None:
    """Find the weights of a model.

    Looked for are ``<name>.<version>`` and ``<name>_<version>`` (then the same with the model's ``file``, then the name
    in its ``url``), with the endings of its format, in ``path.models/<survey>``, ``path.models`` and the cache folder.
    """
    for path in _candidates(settings, spec, ENDINGS[spec.declared.format]):
        if path.is_file() or _is_saved_model(path):
            return path
    return None


def ready(settings: Settings, spec: Spec) -> Path:
    """Find the ONNX file with which a model can be scored now.

    Raises
    ------
    WeightsMissingError, NotConvertedError
        If something is to be done first; the text says what.
    ModelError
        If the weights are not those declared.
    """
    weights = find(settings, spec)
    if weights is None:
        raise WeightsMissingError(_missing(settings, spec))
    checksum = verify(weights, spec)
    if spec.declared.format == "onnx":
        return weights
    target = converted(settings, spec, checksum)
    if target.is_file():
        return target
    if not settings.ml.use_tensorflow:
        beside = next((path for path in _candidates(settings, spec, ENDINGS["onnx"]) if path.is_file()), None)
        if beside is not None:
            return beside
    raise NotConvertedError(Conversion(spec, weights, checksum, target))


def verify(weights: Path, spec: Spec) -> str:
    """Give the SHA-256 of a model's weights, after comparing it with the declared one.

    Raises
    ------
    ModelError
        If they differ, or the file can't be read. The digest of a folder is our own, so no declared one applies.
    """
    try:
        found = digest(weights)
    except OSError as error:
        raise ModelError(f"{weights} can't be read: {error.strerror}") from error
    wanted = spec.declared.sha256
    if wanted is not None and weights.is_file() and found != wanted:
        raise ModelError(
            f"{weights} is not the file declared (its sha256 is {found}, not {wanted}); take it away and fetch it anew"
        )
    return found


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all names and contents in a folder, as 64 hexadecimal digits."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for below in sorted(path.rglob("*")):
        if below.is_file():
            total.update(f"{below.relative_to(path).as_posix()}\0{digest(below)}\0".encode())
    return total.hexdigest()


def cache_folder(settings: Settings) -> Path:
    """Folder for what is derived of weights: beside them, or in the run folder where ``path.models`` is read-only."""
    models = settings.path.models
    return settings.path.run / "models-cache" if _is_read_only(models) else models / "cache"


def download_target(settings: Settings, spec: Spec) -> Path:
    """Where fetched weights are put: in ``path.models`` if that can be written to, with the ending of their ``url``."""
    endings = [ending for ending in ENDINGS[spec.declared.format] if ending]
    published = urlsplit(spec.declared.url or "").path.lower()
    ending = max((ending for ending in endings if published.endswith(ending)), key=len, default=endings[0])
    models = settings.path.models
    return (cache_folder(settings) if _is_read_only(models) else models) / (spec.stems[0] + ending)


def converted(settings: Settings, spec: Spec, checksum: str) -> Path:
    """Where the ONNX form of weights with that digest is kept, whether or not it exists.

    The name holds the digest, so changed weights are converted anew. The tools' versions are noted inside the file
    and are no part of the name: a conversion that was checked against TensorFlow stays right when a tool is updated.
    """
    return cache_folder(settings) / f"{spec.stems[0]}.{checksum[:16]}-{CONVERSION}.onnx"


def _candidates(settings: Settings, spec: Spec, endings: tuple[str, ...]) -> Iterator[Path]:
    models = settings.path.models
    for folder in (models / spec.survey.lower(), models, cache_folder(settings)):
        for stem in spec.stems:
            for ending in endings:
                yield folder / (stem + ending)


def _is_saved_model(path: Path) -> bool:
    return path.is_dir() and any(path.glob(f"**/{SAVED_MODEL}"))


def _is_read_only(folder: Path) -> bool:
    """Whether nothing should be written there: a folder without any write permission is left alone even by root."""
    if not folder.is_dir():
        return False
    writable_by_anyone = folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    return not (writable_by_anyone and os.access(folder, os.W_OK))


def _missing(settings: Settings, spec: Spec) -> str:
    named = " or ".join(spec.stems[0] + (ending or "/") for ending in ENDINGS[spec.declared.format])
    remedy = f"`./kowalski.py models fetch {spec.name}` gets it" if spec.declared.url else "put it there"
    return f"there is no {named} in {settings.path.models}; {remedy}"
