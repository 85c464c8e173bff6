"""What is encoded decodes to the same documents as what json_util writes."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import (
    SON,
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.json_util import RELAXED_JSON_OPTIONS
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from kowalski.api import extjson

CANDID = 1105522281015015000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = texts.filter(lambda key: "\0" not in key and not key.startswith("$"))
dates = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    texts,
    st.binary(max_size=40),
    st.builds(Binary, st.binary(max_size=20), st.sampled_from([0, 2, 4, 5, 128])),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    dates,
    st.decimals(allow_nan=True, places=5, min_value=-1e9, max_value=1e9).map(Decimal128),
    st.builds(Regex, keys, st.sampled_from(["", "i", "mx"])),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.sampled_from([MinKey(), MaxKey(), Code("x"), Code("x", {"y": 1}), DBRef("stars", 4)]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)
documents = st.dictionaries(keys, values, max_size=6)


def same(one: Any, other: Any) -> bool:
    """Equal, where a NaN equals a NaN and numbers differ from truth values."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Decimal128) and isinstance(other, Decimal128):
        return one.bid == other.bid
    return type(one) is type(other) and bool(one == other)


@given(documents)
def test_a_document_decodes_as_from_json_util(document: dict[str, Any]) -> None:
    raw = bson.encode(document)
    (text,) = extjson.encode(raw)
    expected = json_util.dumps(bson.decode(raw, extjson.OPTIONS), json_options=RELAXED_JSON_OPTIONS)
    assert same(json_util.loads(text.decode()), json_util.loads(expected))


@given(documents)
def test_values_in_memory_are_encoded_alike(document: dict[str, Any]) -> None:
    raw = bson.encode(document)
    assert extjson.dumps(bson.decode(raw, extjson.OPTIONS)) == extjson.encode(raw)[0]
    assert extjson.dumps([RawBSONDocument(raw)]) == b"[" + extjson.encode(raw)[0] + b"]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Int64(CANDID), "1105522281015015000"),
        (2**63 - 1, "9223372036854775807"),
        (math.nan, '{"$numberDouble":"NaN"}'),
        (-math.inf, '{"$numberDouble":"-Infinity"}'),
        (b"\x00\xff", '{"$binary":{"base64":"AP8=","subType":"00"}}'),
        (datetime(2020, 1, 2, 3, 4, 5, 678000), '{"$date":"2020-01-02T03:04:05.678Z"}'),
        (datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), '{"$date":"2020-01-02T03:04:05Z"}'),
        (datetime(1970, 1, 1) - timedelta(milliseconds=1), '{"$date":{"$numberLong":"-1"}}'),
        (DatetimeMS(2**60), '{"$date":{"$numberLong":"1152921504606846976"}}'),
        (ObjectId("0123456789abcdef01234567"), '{"$oid":"0123456789abcdef01234567"}'),
        (Decimal128("1.10"), '{"$numberDecimal":"1.10"}'),
        (None, "null"),
        ("null", '"null"'),
        ([math.nan, "null", None], '[{"$numberDouble":"NaN"},"null",null]'),
        (Code("x", {"y": math.nan}), '{"$code":"x","$scope":{"y":{"$numberDouble":"NaN"}}}'),
        (DBRef("stars", math.inf), '{"$ref":"stars","$id":{"$numberDouble":"Infinity"}}'),
        (SON(y=math.nan), '{"y":{"$numberDouble":"NaN"}}'),
    ],
)
def test_the_wire_format_of(value: Any, text: str) -> None:
    assert extjson.dumps({"value": value}).decode() == f'{{"value":{text}}}'
    (encoded,) = extjson.encode(bson.encode({"value": value}))
    assert json.loads(encoded) == json.loads(f'{{"value":{text}}}')


def test_a_nan_between_nulls_and_random_bytes_is_found() -> None:
    document = {"null": None, "stamp": bytes(range(256)) * 20, "deep": [{"rows": [1.0, math.nan]}], "inf": math.inf}
    (text,) = extjson.encode(bson.encode(document))
    decoded = json_util.loads(text.decode())
    assert math.isnan(decoded["deep"][0]["rows"][1])
    assert decoded["inf"] == math.inf
    assert decoded["null"] is None


@given(st.lists(documents, max_size=5))
def test_documents_of_a_batch_are_encoded_like_each_alone(found: list[dict[str, Any]]) -> None:
    raws = [bson.encode(document) for document in found]
    alone = [extjson.encode(raw)[0] for raw in raws]
    assert extjson.encode(b"".join(raws)) == alone
    assert extjson.encode_items(b"".join(raws)) == (b",".join(alone), len(raws))


@pytest.mark.parametrize("text", ['{"$binary":{"base64":"', "null", '"null"', '\\"null', '":null,"'])
@pytest.mark.parametrize("number", [math.nan, 1.0])
def test_texts_that_look_like_json_hide_nothing(text: str, number: float) -> None:
    documents = [{"a": b"12", text: text, "b": number, "c": [b"3", text, number, b""]}, {"d": number}]
    expected = json_util.dumps(documents, json_options=RELAXED_JSON_OPTIONS)
    items, _ = extjson.encode_items(b"".join(map(bson.encode, documents)))
    assert same(json_util.loads(f"[{items.decode()}]"), json_util.loads(expected))
    assert extjson.dumps(documents) == b"[" + items + b"]"


def test_what_is_not_bson_is_refused() -> None:
    with pytest.raises(TypeError):
        extjson.dumps({"value": object()})
