"""The real models on real alerts: scores as published, and as TensorFlow gives them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import fastavro
import numpy as np
import pytest

from kowalski.config import Settings
from kowalski.ml import conversion
from kowalski.ml.archives import unpack
from kowalski.ml.scorer import Scorer, Scores
from kowalski.science import triplets
from kowalski.surveys import get
from kowalski.surveys.base import Alert

PUBLISHED = ("braai", "acai_h", "acai_v", "acai_o", "acai_n", "acai_b")
WITHIN = 1e-5


class Scored(NamedTuple):
    """Alerts by their file, with what the models were fed and gave."""

    alerts: dict[str, Alert]
    images: np.ndarray
    valid: np.ndarray
    features: list[dict[str, object]]
    scores: dict[str, Scores]
    scorer: Scorer


@pytest.fixture(scope="module")
def scored(sample_data: Path, real_models: Settings) -> Scored:
    survey = get("ztf")
    alerts = {}
    for path in sorted(sample_data.glob("ztf_alerts/*/*.avro")):
        if path.parent.name != "damaged":
            with path.open("rb") as file:
                packet = next(fastavro.reader(file))
            alerts[str(path.relative_to(sample_data))] = survey.shape(packet)  # type: ignore[arg-type]
    images, valid = triplets.make([alert.stamps for alert in alerts.values()])
    history, magnitude = survey.light_curve
    features = []
    for alert in alerts.values():
        rows = alert.histories[history]
        features.append(
            dict(survey.features(alert, [(row["jd"], row[magnitude]) for row in rows if row.get(magnitude)]))
        )
    scorer = Scorer.load(real_models, "ZTF")
    assert scorer.missing == {}
    scores = dict(zip(alerts, scorer.score(images, valid, features), strict=True))
    return Scored(alerts, images, valid, features, scores, scorer)


def test_every_published_score_is_met(sample_data: Path, scored: Scored) -> None:
    with (sample_data / "ztf_alerts" / "ml_reference_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    compared = 0
    for row in rows:
        found = scored.scores[row["file"]]
        for name in PUBLISHED:
            if row[name]:
                assert abs(float(found[name]) - float(row[name])) <= WITHIN, (row["file"], name)
                compared += 1
            else:
                assert name not in found, (row["file"], name)
    assert compared > 3000


def test_alerts_without_stamps_have_no_score(sample_data: Path, scored: Scored) -> None:
    bare = [name for name in scored.alerts if "nocutouts" in name]
    assert len(bare) == 20
    assert all(scored.scores[name] == {} for name in bare)
    assert scored.scorer.absent["braai", "stamps"] == 20


def test_old_packets_lack_only_what_they_lack(scored: Scored) -> None:
    old = [name for name in scored.alerts if "/20180626/" in name]
    assert all({"braai", "bts"} <= set(scored.scores[name]) for name in old)
    assert scored.scorer.absent["acai_h", "features"] == len(old) == 12
    assert not any(reason == "score" for _, reason in scored.scorer.absent)


TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
given = np.load(sys.argv[2])
model = tf.saved_model.load(sys.argv[1])
signature = model.signatures["serving_default"]
names = {len(spec.shape): name for name, spec in signature.structured_input_signature[1].items()}
scores = signature(**{names[4]: given["triplets"], names[2]: given["features"]})
np.save(sys.argv[3], next(iter(scores.values())).numpy().ravel())
"""


def test_btsbot_scores_as_in_tensorflow(real_models: Settings, scored: Scored, tmp_path: Path) -> None:
    names = real_models.ml.of("ZTF").models["bts"].feature_names
    assert isinstance(names, tuple)
    chosen = [index for index, key in enumerate(scored.alerts) if "bts" in scored.scores[key]][::25][:20]
    assert len(chosen) == 20
    unpack(real_models.path.models / "btsbot_v1.0.1.tar", tmp_path)
    numbers = np.array([[scored.features[index][name] for name in names] for index in chosen], np.float32)
    np.savez(tmp_path / "given.npz", triplets=scored.images[chosen], features=numbers)
    command = [
        sys.executable,
        "-c",
        TENSORFLOW,
        tmp_path / "best_model",
        tmp_path / "given.npz",
        tmp_path / "scores.npy",
    ]
    subprocess.run(list(map(str, command)), env=os.environ | conversion.ENVIRONMENT, check=True, capture_output=True)
    found = [list(scored.scores.values())[index]["bts"] for index in chosen]
    wanted = np.load(tmp_path / "scores.npy")
    assert np.ptp(wanted) > 0.1, "the alerts should be of several kinds"
    np.testing.assert_allclose(np.array(found, np.float64), wanted, rtol=0.0, atol=WITHIN)


def test_all_real_models_share_a_graph_and_give_what_each_gives(real_models: Settings, scored: Scored) -> None:
    models = real_models.ml.of("ZTF").models
    chosen = np.flatnonzero(scored.valid)[-16:]
    features = [scored.features[index] for index in chosen]
    together = scored.scorer.score(scored.images[chosen], scored.valid[chosen], features)
    for name in ("braai", "acai_n", "bts"):
        alone = real_models.model_copy(deep=True)
        kept = alone.ml.of("ZTF").models
        for other in set(models) - {name}:
            del kept[other]
        single = Scorer.load(alone, "ZTF")
        for one, many in zip(
            single.score(scored.images[chosen], scored.valid[chosen], features), together, strict=True
        ):
            assert one[name] == pytest.approx(many[name], abs=1e-6)
