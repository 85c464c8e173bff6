"""Where weights are found, and when they are not used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kowalski.config import Settings
from kowalski.ml import files
from kowalski.ml.specs import ModelError, Spec, declared

Declare = Callable[..., Settings]


def spec_of(settings: Settings) -> Spec:
    specs, refused = declared(settings.ml, "ZTF")
    assert not refused
    return specs[0]


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("h5", "bts.v1.h5"), ("h5", "bts_v1.h5"), ("h5", "bts_v1.hdf5"), ("h5", "ztf/bts.v1.h5"),
        ("h5", "btsbot_v1.h5"), ("onnx", "bts.v1.onnx"), ("pb", "bts.v1/saved_model.pb"),
        ("pb", "bts_v1/best_model/saved_model.pb"), ("pb", "bts_v1.tar"), ("pb", "btsbot.v1.tar.gz"),
        ("pb", "bts.v1.tgz"), ("pb", "v1.tar.gz"), ("pb", "cache/bts.v1.tar"),
    ],
)  # fmt: skip
def test_weights_are_found(declare: Declare, form: str, name: str) -> None:
    url = "https://example.org/v1.tar.gz"
    settings = declare(bts={"format": form, "file": "btsbot", "url": url})
    assert files.find(settings, spec_of(settings)) is None
    path = put(settings.path.models / name)
    found = files.find(settings, spec_of(settings))
    assert found is not None
    assert path.is_relative_to(found)


@pytest.mark.parametrize("name", ["bts.v2.h5", "other.v1.h5", "bts.v1.onnx", "bts.v1.weights.h5", "bts.v1"])
def test_other_files_are_not_taken(declare: Declare, name: str) -> None:
    settings = declare(bts={"format": "h5"})
    put(settings.path.models / name)
    assert files.find(settings, spec_of(settings)) is None


def test_missing_weights_are_named_with_what_to_do(declare: Declare) -> None:
    settings = declare(bts={"format": "h5", "url": "https://example.org/bts.h5"})
    with pytest.raises(
        files.WeightsMissingError, match=r"no bts\.v1\.h5 .* `\./kowalski\.py models fetch bts` gets it"
    ):
        files.ready(settings, spec_of(settings))


def test_weights_to_convert_are_named_with_what_to_do(declare: Declare) -> None:
    settings = declare(bts={"format": "h5"})
    path = put(settings.path.models / "bts.v1.h5")
    with pytest.raises(
        files.NotConvertedError, match=r"`USE_TENSORFLOW=True \./kowalski\.py models check bts`"
    ) as caught:
        files.ready(settings, spec_of(settings))
    assert caught.value.conversion.source == path
    put(caught.value.conversion.target, b"onnx")
    assert files.ready(settings, spec_of(settings)) == caught.value.conversion.target


def test_changed_weights_are_converted_anew(declare: Declare) -> None:
    settings = declare(bts={"format": "h5"})
    spec = spec_of(settings)
    path = put(settings.path.models / "bts.v1.h5")
    put(files.converted(settings, spec, files.digest(path)))
    files.ready(settings, spec)
    put(path, b"other weights")
    with pytest.raises(files.NotConvertedError):
        files.ready(settings, spec)


@pytest.mark.parametrize("use_tensorflow", [True, False])
def test_an_onnx_file_beside_stands_in_only_without_tensorflow(declare: Declare, use_tensorflow: bool) -> None:
    settings = declare(bts={"format": "h5"})
    settings.ml.use_tensorflow = use_tensorflow
    put(settings.path.models / "bts.v1.h5")
    beside = put(settings.path.models / "bts.v1.onnx")
    if use_tensorflow:
        with pytest.raises(files.NotConvertedError):
            files.ready(settings, spec_of(settings))
    else:
        assert files.ready(settings, spec_of(settings)) == beside


@pytest.mark.parametrize("content", [b"weights", b"tampered"])
def test_the_declared_digest_decides(declare: Declare, content: bytes) -> None:
    settings = declare(bts={"sha256": hashlib.sha256(b"weights").hexdigest()})
    path = put(settings.path.models / "bts.v1.onnx", content)
    if content == b"weights":
        assert files.ready(settings, spec_of(settings)) == path
    else:
        with pytest.raises(ModelError, match="is not the file declared"):
            files.ready(settings, spec_of(settings))


def test_a_folder_has_a_digest_of_names_and_contents(tmp_path: Path) -> None:
    changes: list[Callable[[Path], Any]] = [
        lambda folder: put(folder / "a", b"1"),
        lambda folder: put(folder / "a", b"2"),
        lambda folder: (folder / "a").rename(folder / "b"),
        lambda folder: put(folder / "below" / "c", b""),
    ]
    digests = set()
    for change in changes:
        change(tmp_path)
        digests.add(files.digest(tmp_path))
    assert len(digests) == len(changes)


def test_a_read_only_folder_is_left_alone(declare: Declare) -> None:
    settings = declare(bts={"format": "pb", "url": "https://example.org/production/V1.TAR.GZ"})
    spec = spec_of(settings)
    models = settings.path.models
    models.mkdir()
    assert files.cache_folder(settings) == models / "cache"
    assert files.download_target(settings, spec) == models / "bts.v1.tar.gz"
    models.chmod(0o555)
    try:
        assert files.cache_folder(settings) == settings.path.run / "models-cache"
        assert files.download_target(settings, spec) == settings.path.run / "models-cache" / "bts.v1.tar.gz"
    finally:
        models.chmod(0o755)


@pytest.mark.parametrize(
    ("form", "url", "name"),
    [
        ("h5", "https://example.org/braai_d6_m9.h5", "bts.v1.h5"),
        ("h5", "https://example.org/download?id=7", "bts.v1.h5"),
        ("pb", "https://example.org/model.tar", "bts.v1.tar"),
        ("onnx", "https://example.org/model", "bts.v1.onnx"),
    ],
)
def test_fetched_weights_get_a_name_under_which_they_are_found(
    declare: Declare, form: str, url: str, name: str
) -> None:
    settings = declare(bts={"format": form, "url": url})
    spec = spec_of(settings)
    target = files.download_target(settings, spec)
    assert target.name == name
    put(target)
    assert files.find(settings, spec) == target
