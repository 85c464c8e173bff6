"""Python literals and Extended JSON in what users send."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from kowalski.api.literals import MAX_DEPTH, MAX_LITERAL, decode_extended, parse_literal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), plain))
def test_what_python_prints_is_parsed(value: dict[str, Any]) -> None:
    assert parse_literal(repr(value)) == value


def test_json_is_parsed_too() -> None:
    assert parse_literal('{"a": true, "b": null}') == {"a": True, "b": None}


@pytest.mark.parametrize(
    "text",
    ["__import__('os').getcwd()", "{'a': open}", "[" * 5000, "-" * 200_000 + "1", "(", "a b", "'" + "x" * MAX_LITERAL],
)
def test_what_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither JSON nor a Python literal|is not parsed"):
        parse_literal(text)


def test_extended_json_becomes_values() -> None:
    sent = {
        "_id": {"$in": [{"$oid": "0123456789abcdef01234567"}]},
        "at": {"$gt": {"$date": "2020-01-02T00:00:00Z"}},
        "price": {"$numberDecimal": "1.5"},
        "candid": {"$numberLong": "1105522281015015000"},
    }
    assert decode_extended(sent) == {
        "_id": {"$in": [ObjectId("0123456789abcdef01234567")]},
        "at": {"$gt": datetime(2020, 1, 2)},
        "price": Decimal128("1.5"),
        "candid": 1105522281015015000,
    }


def test_operators_and_programs_stay_as_they_are() -> None:
    sent = {"name": {"$regex": "^a", "$options": "i"}, "$expr": {"$gt": ["$a", 1]}, "text": {"$code": "x"}}
    assert decode_extended(sent) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"$oid": "nonsense"},
        {"$date": []},
        {"$date": "2020"},
        {"$date": {"$numberLong": "9999999999999999"}},
        {"$numberDecimal": "x"},
        {"$binary": 3},
        {"$binary": {"base64": "%%", "subType": "zz"}},
        {"$uuid": "x"},
        {"$timestamp": 3},
        {"$minKey": 2},
        {"$regularExpression": 3},
    ],
)
def test_wrong_extended_json_is_a_value_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match="not valid Extended JSON"):
        decode_extended({"field": [wrong]})


def test_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH + 2):
        value = [value]
    with pytest.raises(ValueError, match="nested deeper"):
        decode_extended(value)
