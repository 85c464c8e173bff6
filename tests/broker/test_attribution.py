"""Whose result is it: pipelines that keep ``_id`` or ``candid`` may run on a batch, all others alert by alert."""

from __future__ import annotations

from typing import Any

import pytest

from kowalski.broker.attribution import attribution

MATCH = {"$match": {"candidate.drb": {"$gt": 0.5}}}


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ([], "_id"),
        ([MATCH], "_id"),
        ([MATCH, {"$project": {"annotations": 1}}], "_id"),
        ([{"$project": {"_id": 0, "candid": 1}}], "candid"),
        ([{"$project": {"_id": 0, "candid": "$candid", "x": 1}}], "candid"),
        ([{"$project": {"_id": False, "annotations": 1}}], None),
        ([{"$project": {"_id": "$objectId", "candid": 1}}], "candid"),
        ([{"$project": {"_id": 0}}], "candid"),
        ([{"$project": {"candidate": 0}}], "_id"),
        ([{"$project": {"_id": 0, "candid": 0}}], None),
        ([{"$project": {"_id": 0, "candid.x": 1}}], None),
        ([{"$unset": "_id"}], "candid"),
        ([{"$unset": ["_id", "candid"]}], None),
        ([{"$addFields": {"_id": 7}}, {"$set": {"candid": "$candid"}}], "candid"),
        ([{"$set": {"_id.part": 7, "candid": 1}}], None),
        ([{"$replaceRoot": {"newRoot": "$candidate"}}], None),
        ([{"$replaceWith": {"$mergeObjects": ["$candidate", "$$ROOT"]}}], None),
        ([{"$redact": "$$KEEP"}], "_id"),
        ([{"$group": {"_id": "$_id"}}], None),
        ([{"$limit": 1}], None),
        ([{"$sort": {"candid": 1}}], None),
        ([{"$unwind": "$prv_candidates"}], None),
        ([{"$facet": {}}], None),
        ([{"$unheard": {}}], None),
        ([{"$match": {}, "$project": {}}], None),
    ],
)
def test_what_a_pipeline_keeps(pipeline: list[dict[str, Any]], expected: str | None) -> None:
    assert attribution(pipeline) == expected
