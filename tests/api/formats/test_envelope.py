"""The envelope is the same JSON however the documents come."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kowalski.api.formats import encoder as encoders
from kowalski.api.formats import envelope
from kowalski.api.formats.encoder import Encoder
from kowalski.api.results import Batch, Match, Matches, Result, Rows, Value

from .conftest import stream

documents = st.lists(st.builds(lambda number, text: {"n": number, "t": text}, st.integers(0, 9), st.text(max_size=30)))
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def packed(found: list[dict[str, Any]], raw: bool) -> Batch:
    return b"".join(bson.encode(document) for document in found) if raw else found


async def written(result: Result, encoder: Encoder) -> Any:
    return json.loads(b"".join([piece async for piece in envelope.pieces("fine", result, encoder)]))


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a few documents need several."""
    monkeypatch.setattr(encoders, "SLICE", 120)
    monkeypatch.setattr(encoders, "PART", 60)
    monkeypatch.setattr(encoders, "PART_DOCUMENTS", 2)
    monkeypatch.setattr(encoders, "INLINE", 40)


@quick
@given(st.lists(st.tuples(documents, st.booleans()), max_size=4))
async def test_rows(encoder: Encoder, batches: list[tuple[list[dict[str, Any]], bool]]) -> None:
    rows = Rows(stream(packed(found, raw) for found, raw in batches))
    expected = [document for found, _ in batches for document in found]
    assert await written(rows, encoder) == {"status": "success", "message": "fine", "data": expected}


names = st.lists(st.text(max_size=3), unique=True, max_size=3)


@quick
@given(names, names, st.data())
async def test_matches(encoder: Encoder, catalogs: list[str], objects: list[str], data: st.DataObject) -> None:
    expected = {
        catalog: {name: data.draw(st.lists(documents, min_size=1, max_size=3)) for name in objects}
        for catalog in catalogs
    }
    found = [
        Match(catalog, name, packed(part, data.draw(st.booleans())))
        for catalog, by_object in expected.items()
        for name, parts in by_object.items()
        for part in parts
    ]
    answer = await written(Matches(catalogs, stream(found)), encoder)
    assert list(answer["data"]) == catalogs
    assert [name for name, _ in groupby(found, lambda match: match.catalog)] == (catalogs if objects else [])
    assert answer["data"] == {
        catalog: {name: [row for part in parts for row in part] for name, parts in by_object.items()}
        for catalog, by_object in expected.items()
    }


async def test_values(encoder: Encoder) -> None:
    assert await written(Value(3), encoder) == {"status": "success", "message": "fine", "data": 3}
    assert await written(Value(None), encoder) == {"status": "success", "message": "fine"}
