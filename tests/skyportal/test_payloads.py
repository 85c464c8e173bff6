from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from kowalski.science import thumbnails
from kowalski.science.photometry import alert_photometry
from kowalski.skyportal.payloads import AnnotationPost, CandidatePost, Payload, PhotometryPut, ThumbnailPost
from kowalski.testing.skyportal import shapes


def sent(payload: Payload) -> dict[str, object]:
    body: dict[str, object] = json.loads(orjson.dumps(payload.body()))
    return body


def candidate(**changes: object) -> CandidatePost:
    fields = {"id": "ZTF20aaelulu", "ra": 185.7, "dec": 15.8, "score": 0.9, "filter_ids": [1, 2]}
    fields |= {"passing_alert_id": 1127561445515015011, "passed_at": datetime(2026, 3, 1, 4, 5, 6, 789000)}
    return CandidatePost.model_validate(fields | changes)


def test_candidate() -> None:
    body = sent(candidate())
    assert shapes.Candidate.model_validate(body)
    assert body["passing_alert_id"] == 1127561445515015011
    assert body["passed_at"] == "2026-03-01T04:05:06.789000"
    assert body["origin"] == "Kowalski"


@pytest.mark.parametrize("moment", [datetime(2026, 3, 1, 4, 5, 6), datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)])
def test_a_moment_is_always_written_alike(moment: datetime) -> None:
    assert sent(candidate(passed_at=moment))["passed_at"] == "2026-03-01T04:05:06.000000"


def test_a_candidate_without_score_or_filter() -> None:
    assert sent(candidate(score=None))["score"] is None
    with pytest.raises(ValidationError):
        candidate(filter_ids=[])


def test_photometry_has_nulls_where_there_is_no_value() -> None:
    row = {"jd": 2460000.5, "fid": 1, "magpsf": 18.9, "sigmapsf": 0.1, "diffmaglim": 20.5, "isdiffpos": "t"}
    curve = alert_photometry([row | {"ra": 1.0, "dec": 2.0}, row | {"jd": 2460001.5, "magpsf": None}], {1: "ztfg"})
    put = PhotometryPut.of(curve, obj_id="A", stream_id=4, instrument_id=2, origin="alert_fp")
    body = sent(put)
    assert shapes.Photometry.model_validate(body)
    assert body["stream_ids"] == [4]
    assert body["magsys"] == ["ab", "ab"]
    assert put.flux[0] == pytest.approx(100.0)
    assert (put.flux[1], put.ra, put.dec, put.origin) == (None, [1.0, None], [2.0, None], ["alert_fp", "alert_fp"])


def test_thumbnail() -> None:
    png = thumbnails.render(np.eye(63))
    body = sent(ThumbnailPost.of(png, obj_id="A", ttype="sub"))
    assert shapes.Thumbnail.model_validate(body)


def test_annotation() -> None:
    body = sent(AnnotationPost(obj_id="A", origin="group:filter", data={"age": float("nan")}, group_ids=[1]))
    assert shapes.Annotation.model_validate(body)
    assert body["data"] == {"age": None}
