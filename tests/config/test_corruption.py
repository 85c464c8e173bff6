"""Whatever is in a configuration, loading it gives valid settings or a `ConfigError`, and nothing else."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kowalski.config import PROJECT, ConfigError, Settings, load, sources

DEFAULTS = sources.read(PROJECT / "config.defaults.yaml")
HARMLESS = [HealthCheck.function_scoped_fixture]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["~nobody", "(", "\x00", "1e999", "-1", "99999999999999999999", "mongodb://", "('a',)", "2000-01-01"]
    ),
)
values = st.recursive(
    scalars,
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), below, max_size=3)
    ),
    max_leaves=5,
)


def load_or_complain(file: Path, environ: dict[str, str]) -> None:
    try:
        loaded = load(file, environ)
    except ConfigError as error:
        complaint = str(error)
    else:
        complaint = "none"
        assert Settings.model_validate(loaded.settings.model_dump(mode="json"))
    assert complaint
    assert len(complaint.splitlines()) == 1


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, value in below for found in paths(value, (*path, key)))]


PATHS = [path for path in paths(DEFAULTS) if path]


def corrupt(path: tuple[Any, ...], value: Any, rename: str | None) -> Any:
    tree = copy.deepcopy(DEFAULTS)
    level = tree
    for part in path[:-1]:
        level = level[part]
    if rename is not None and isinstance(level, dict):
        level[rename] = level.pop(path[-1])
    else:
        level[path[-1]] = value
    return tree


@settings(max_examples=80, deadline=None, suppress_health_check=HARMLESS)
@given(path=st.sampled_from(PATHS), value=values, rename=st.one_of(st.none(), st.text(max_size=10)))
def test_one_value_or_name_is_wrong(tmp_path: Path, path: tuple[Any, ...], value: Any, rename: str | None) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(corrupt(path, value, rename), allow_unicode=True), encoding="utf-8")
    load_or_complain(file, {})


@settings(max_examples=50, deadline=None, suppress_health_check=HARMLESS)
@given(
    tree=st.dictionaries(
        st.one_of(st.sampled_from([*DEFAULTS, "kowalski", "misc", "enabled"]), st.text(max_size=5)), values, max_size=4
    )
)
def test_any_sections(tmp_path: Path, tree: dict[str, Any]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    load_or_complain(file, {})


@settings(max_examples=50, deadline=None, suppress_health_check=HARMLESS)
@given(seed=st.integers(0, 2**32), data=st.binary(max_size=3))
def test_some_bytes_are_damaged(tmp_path: Path, seed: int, data: bytes) -> None:
    chance = random.Random(seed)
    text = (PROJECT / "config.defaults.yaml").read_bytes()
    start = chance.randrange(len(text))
    file = tmp_path / "config.yaml"
    file.write_bytes(text[:start] + data + text[start + chance.randrange(20) :])
    load_or_complain(file, {})


@settings(max_examples=60, deadline=None, suppress_health_check=HARMLESS)
@given(
    variables=st.dictionaries(
        st.sampled_from([f"KOWALSKI_{'__'.join(map(str, path)).upper()}" for path in PATHS if len(path) > 1]),
        st.one_of(st.text(max_size=15), st.sampled_from(["[", "{a: 1}", "[1, 2]", "null", "true", "1"])),
        max_size=4,
    )
)
def test_any_variables(tmp_path: Path, variables: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    load_or_complain(file, variables)


@pytest.mark.parametrize("text", ["", "---", "kowalski:", "kowalski: null", "# nothing"])
def test_nothing_is_a_configuration_too(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert load(file, {}).warnings == []
