"""``config.defaults.yaml`` is the operators' reference: complete, explained, and equal to what the code assumes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kowalski import surveys
from kowalski.config import PROJECT, load
from kowalski.config.settings import Settings

TEXT = (PROJECT / "config.defaults.yaml").read_text()
WRITTEN = yaml.safe_load(TEXT)
FILLED = {
    "database.indexes",
    "database.xmatch",
    "queries.roles",
    "server.default_permissions",
    "triggers.telescopes",
}
"""What the code leaves empty: it names no survey, and no role."""


def settings_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting's key and default; what is below names that operators choose is left out."""
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, f"{key}.")
        else:
            default = field.get_default(call_default_factory=True)
            yield key, str(default) if hasattr(default, "__fspath__") else default


DEFAULTS = dict(settings_of(Settings))


def written(key: str) -> Any:
    level = WRITTEN
    for part in key.split("."):
        level = level[part]
    return level


@pytest.mark.parametrize("key", [key for key in DEFAULTS if key not in FILLED])
def test_each_setting_is_written_with_its_default(key: str) -> None:
    assert written(key) == DEFAULTS[key]


@pytest.mark.parametrize("key", sorted(FILLED))
def test_what_the_code_leaves_empty_is_filled(key: str) -> None:
    assert DEFAULTS[key] == {}
    assert written(key)


def test_nothing_else_is_written() -> None:
    for section, content in WRITTEN.items():
        known = {key.split(".")[1] for key in DEFAULTS if key.startswith(f"{section}.")}
        if section not in ("surveys", "ml"):
            assert set(content) == known
    assert {"use_tensorflow", "device"} < set(WRITTEN["ml"]) <= {"use_tensorflow", "device", *surveys.SURVEYS}
    assert set(WRITTEN["surveys"]) == {"plugins", *surveys.SURVEYS}


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_each_setting_is_explained(key: str) -> None:
    """On its line, or on the comment lines right above it; a heading's explanation does not count."""
    if key in ("surveys", "server.port", "database.port", "database.password", "skyportal.host", "skyportal.port"):
        return  # explained by the heading or the neighbour above
    if key.startswith("server.contact.") or key in ("database.query_password", "kafka.bootstrap.servers"):
        return
    name = key.rpartition(".")[2]
    found = list(re.finditer(rf"^(( *#.*\n)*) *{name}:(.*)$", TEXT, re.MULTILINE))
    assert any("#" in match[1] or "#" in match[3] for match in found), name


def test_the_defaults_are_valid_and_load_without_a_warning() -> None:
    loaded = load(environ={"KOWALSKI_CONFIG": str(PROJECT / "config.defaults.yaml")})
    assert loaded.warnings == []
    assert set(loaded.settings.enabled_surveys) == set(surveys.SURVEYS)


def test_every_index_has_a_name_of_its_own() -> None:
    for indexes in load(environ={}).settings.database.indexes.values():
        names = [index.name for index in indexes]
        assert len(names) == len(set(names))


def test_catalogs_of_ztf() -> None:
    catalogs = load(environ={}).settings.database.xmatch["ZTF"]
    assert len(catalogs) == 14
    assert {name for name, catalog in catalogs.items() if catalog.use_distance} == {"CLU_20190625", "NED_BetaV3"}
    for name, catalog in catalogs.items():
        assert catalog.cone_search_radius == (300 if catalog.use_distance else 2), name
        assert catalog.projection.get("_id") == 1, name
        if catalog.use_distance:
            assert {catalog.distance_value, "ra", "dec"} <= set(catalog.projection), name


@pytest.mark.parametrize(
    ("survey", "count", "radii"),
    [
        ("PGIR", 11, {8.0, 300.0}),
        ("WNTR", 10, {2.0, 5.0, 300.0}),
        ("TURBO", 0, set()),
    ],
)
def test_catalogs_of_infrared_surveys(survey: str, count: int, radii: set[float]) -> None:
    """Those of the first survey with radii of their own, and its newest public alert beside them."""
    catalogs = load(environ={}).settings.database.xmatch
    own = dict(catalogs[survey])
    neighbour = own.pop("ZTF_alerts")
    assert (neighbour.refresh, neighbour.filter) == (True, {"candidate.programid": 1})
    assert neighbour.cone_search_radius == (2 if survey == "WNTR" else 8)
    assert len(own) == count
    assert {catalog.cone_search_radius for catalog in own.values()} == radii
    for name, catalog in own.items():
        assert catalog.projection == catalogs["ZTF"][name].projection


@pytest.mark.parametrize("survey", surveys.SURVEYS.values(), ids=lambda survey: survey.name)
def test_indexes_of_each_survey(survey: surveys.Survey) -> None:
    indexes = load(environ={}).settings.database.indexes[survey.alerts]
    assert [index.fields for index in indexes if index.unique] == [[("candid", -1)]]
    assert [(survey.object_id_field, -1)] in [index.fields for index in indexes]
    assert any(index.fields[0] == ("coordinates.radec_geojson", "2dsphere") for index in indexes)


def test_models_of_ztf() -> None:
    ml = load(environ={}).settings.ml.of("ZTF")
    assert list(ml.models) == ["braai", "acai_h", "acai_v", "acai_o", "acai_n", "acai_b", "bts"]
    for name, model in ml.models.items():
        assert model.url is not None, name
        assert model.sha256 is not None, name
        if model.feature_names is not False:
            assert isinstance(model.feature_names, tuple)
            assert len(model.feature_names) == 25, name
            assert set(model.feature_names) <= set(ml.allowed_features), name
    assert ml.models["bts"].order == ("triplet", "features")
