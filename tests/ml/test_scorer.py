"""Scores of a batch: whose are there, whose are absent, and what is counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kowalski.config import Settings
from kowalski.ml.scorer import Scorer

Tiny = Callable[..., Path]
Declare = Callable[..., Settings]

WHOLE = {"magpsf": 0.5, "ra": -0.25, "age": 2.0, "ssnamenr": "null"}


@pytest.fixture
def scorer(tiny: Tiny, declare: Declare) -> Scorer:
    """Four models that share a graph or don't: of images, of both, of both with norms, of numbers alone."""
    tiny("images")
    tiny("both", features=2, bias=0.1)
    tiny("normed", "v7", features=2, bias=0.1)
    tiny("numbers", triplet=False, features=1, bias=0.2)
    settings = declare(
        images={},
        both={"feature_names": ["magpsf", "ra"]},
        normed={"version": "v7", "feature_names": ["magpsf", "ra"], "feature_norms": {"ra": 0.5}},
        numbers={"triplet": False, "feature_names": ["age"]},
    )
    return Scorer.load(settings, "ZTF")


def sigmoid(total: float) -> float:
    return float(1.0 / (1.0 + np.exp(-total)))


def zeros(count: int) -> np.ndarray:
    return np.zeros((count, 63, 63, 3), np.float32)


def test_a_whole_alert_has_all_scores_and_versions(scorer: Scorer) -> None:
    (scores,) = scorer.score(zeros(1), np.array([True]), [WHOLE])
    assert scores == {
        "images": pytest.approx(sigmoid(0.0)), "images_version": "v1",
        "both": pytest.approx(sigmoid(0.1 + 0.5 - 0.25)), "both_version": "v1",
        "normed": pytest.approx(sigmoid(0.1 + 0.5 - 0.5)), "normed_version": "v7",
        "numbers": pytest.approx(sigmoid(0.2 + 2.0)), "numbers_version": "v1",
    }  # fmt: skip
    assert all(type(value) in (float, str) for value in scores.values()), "as MongoDB stores them"
    assert not scorer.absent
    assert scorer.loaded == {"images": "v1", "both": "v1", "normed": "v7", "numbers": "v1"}
    assert scorer.missing == {}


@pytest.mark.parametrize(
    ("triplet", "changes", "lost"),
    [
        (False, {}, {"images": "stamps", "both": "stamps", "normed": "stamps"}),
        (True, {"ra": None}, {"both": "features", "normed": "features"}),
        (True, {"age": float("nan")}, {"numbers": "features"}),
        (True, {"age": float("-inf")}, {"numbers": "features"}),
        (True, {"age": 1e300}, {"numbers": "features"}),
        (True, {"age": 10**400}, {"numbers": "features"}),
        (True, {"age": "old"}, {"numbers": "features"}),
        (True, {"age": [1.0, 2.0]}, {"numbers": "features"}),
        (False, {"ra": None}, {"images": "stamps", "both": "stamps", "normed": "stamps"}),
    ],
)
def test_what_is_missing_costs_only_the_scores_that_need_it(
    scorer: Scorer, triplet: bool, changes: dict[str, Any], lost: dict[str, str]
) -> None:
    good, bad, after = scorer.score(zeros(3), np.array([True, triplet, True]), [WHOLE, {**WHOLE, **changes}, WHOLE])
    assert good == after
    assert set(good) - set(bad) == set(lost) | {f"{name}_version" for name in lost}
    assert all(bad[name] == pytest.approx(good[name]) for name in bad)
    assert scorer.absent == dict.fromkeys(lost.items(), 1)


def test_a_feature_that_is_not_there_is_missing(scorer: Scorer) -> None:
    (scores,) = scorer.score(zeros(1), np.array([True]), [{"magpsf": 0.5, "age": 2.0}])
    assert "both" not in scores
    assert {"images", "numbers"} < set(scores)


def test_counts_add_up_over_batches(scorer: Scorer) -> None:
    for _ in range(3):
        scorer.score(zeros(2), np.array([False, True]), [WHOLE, {**WHOLE, "age": None}])
    assert scorer.absent["images", "stamps"] == 3
    assert scorer.absent["numbers", "features"] == 3


def test_no_alerts_have_no_scores(scorer: Scorer) -> None:
    assert scorer.score(zeros(0), np.array([], np.bool_), []) == []


Whole = st.fixed_dictionaries({name: st.none() | st.floats(-3, 3) for name in ("magpsf", "ra", "age")})


@given(batch=st.lists(st.tuples(st.booleans(), Whole), max_size=30))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_a_batch_gives_what_its_alerts_give_one_by_one(scorer: Scorer, batch: list[tuple[bool, Any]]) -> None:
    valid = np.array([has for has, _ in batch], np.bool_)
    features = [given_ for _, given_ in batch]
    together = scorer.score(zeros(len(batch)), valid, features)
    for index, found in enumerate(together):
        (alone,) = scorer.score(zeros(1), valid[index : index + 1], features[index : index + 1])
        assert set(found) == set(alone)
        for name, value in found.items():
            assert value == (alone[name] if isinstance(value, str) else pytest.approx(alone[name], abs=1e-7))


def test_a_score_that_is_not_finite_is_absent(tiny: Tiny, declare: Declare) -> None:
    tiny("infinite", divide_by_zero=True)
    tiny("images")
    scorer = Scorer.load(declare(infinite={}, images={}), "ZTF")
    (scores,) = scorer.score(zeros(1), np.array([True]), [WHOLE])
    assert set(scores) == {"images", "images_version"}
    assert scorer.absent == {("infinite", "score"): 1}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"rubbish"), "is no valid ONNX file"),
        (lambda path: path.unlink(), "there is no bad.v1.onnx"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"Sigmoid", b"Sigmojd")), "bad"),
    ],
    ids=["rubbish", "gone", "unknown operator"],
)
def test_a_model_that_fails_takes_no_other_down(
    tiny: Tiny, declare: Declare, spoil: Callable[[Path], Any], reason: str
) -> None:
    tiny("good")
    spoil(tiny("bad"))
    scorer = Scorer.load(declare(bad={}, good={}, refused={"triplet": False}), "ZTF")
    assert scorer.loaded == {"good": "v1"}
    assert set(scorer.missing) == {"bad", "refused"}
    assert reason in scorer.missing["bad"] or "ONNX" in scorer.missing["bad"]
    (scores,) = scorer.score(zeros(1), np.array([True]), [WHOLE])
    assert set(scores) == {"good", "good_version"}


def test_a_survey_without_models_has_no_scores(declare: Declare) -> None:
    scorer = Scorer.load(declare(), "OTHER")
    assert (scorer.loaded, scorer.missing, scorer.needs_history) == ({}, {}, False)
    assert scorer.score(zeros(2), np.array([True, False]), [WHOLE, {}]) == [{}, {}]


@pytest.mark.parametrize(("feature", "needed"), [("ra", False), ("age", True)])
def test_history_is_asked_for_only_where_a_model_uses_it(
    tiny: Tiny, declare: Declare, feature: str, needed: bool
) -> None:
    tiny("numbers", triplet=False, features=1)
    scorer = Scorer.load(declare(numbers={"triplet": False, "feature_names": [feature]}), "ZTF")
    assert scorer.needs_history is needed


def test_a_scorer_loads_no_tensorflow(tiny: Tiny, declare: Declare, tmp_path: Path) -> None:
    code = (
        "import sys, kowalski.ml.scorer, kowalski.ml.ready, kowalski.broker.worker; print('tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False", run.stderr


def test_features_may_be_any_mapping(scorer: Scorer) -> None:
    class View(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return WHOLE[key]

        def __iter__(self) -> Any:
            return iter(WHOLE)

        def __len__(self) -> int:
            return len(WHOLE)

    assert scorer.score(zeros(1), np.array([True]), [View()]) == scorer.score(zeros(1), np.array([True]), [WHOLE])
