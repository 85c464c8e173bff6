"""What declarations are refused, and that one refused takes no other down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kowalski.config import Settings
from kowalski.ml.specs import declared

Declare = Callable[..., Settings]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"feature_names": ["magpsf", "colour"]}, "hold colour, not among ml.ZTF.allowed_features"),
        ({"triplet": False, "feature_names": False}, "neither triplet nor features"),
        ({"feature_names": ["magpsf"], "feature_norms": {"ra": 360.0}}, "hold ra, not among its features"),
        ({"feature_names": ["ra"], "feature_norms": {"ra": 0.0}}, "must be finite and not zero"),
        ({"feature_names": ["ra"], "feature_norms": {"ra": float("inf")}}, "must be finite and not zero"),
    ],
)
def test_a_senseless_declaration_is_refused_alone(declare: Declare, model: dict[str, Any], reason: str) -> None:
    specs, refused = declared(declare(good={}, bad=model).ml, "ZTF")
    assert [spec.name for spec in specs] == ["good"]
    assert list(refused) == ["bad"]
    assert reason in refused["bad"]


def test_true_means_all_allowed_features(declare: Declare) -> None:
    settings = declare(every={"feature_names": True, "feature_norms": {"ra": 360.0}})
    (spec,), _ = declared(settings.ml, "ZTF")
    assert spec.features == ("magpsf", "ra", "age")
    assert spec.norms == (1.0, 360.0, 1.0)


def test_a_survey_without_models_has_none(declare: Declare) -> None:
    assert declared(declare().ml, "OTHER") == ([], {})


def test_weights_go_by_several_names(declare: Declare) -> None:
    settings = declare(bts={"file": "btsbot", "url": "https://example.org/production/v1.tar.gz"})
    (spec,), _ = declared(settings.ml, "ZTF")
    assert spec.stems == ("bts.v1", "bts_v1", "btsbot.v1", "btsbot_v1", "v1")


def test_a_published_name_without_the_version_names_no_weights(declare: Declare) -> None:
    settings = declare(bts={"url": "https://example.org/latest.onnx"})
    (spec,), _ = declared(settings.ml, "ZTF")
    assert spec.stems == ("bts.v1", "bts_v1")
