"""The compiled encoder: exact, and safe whatever bytes it is given."""

from __future__ import annotations

import json
from typing import Any

import bson
import numpy as np
import orjson
import pytest
from bson import Binary, json_util
from bson.errors import BSONError
from bson.json_util import RELAXED_JSON_OPTIONS
from hypothesis import given
from hypothesis import strategies as st

from kowalski.api import extjson, transcoder
from tests.api.test_extjson import documents, same

EDGES = [0.1, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e15, 1e16, 1e17, 1e22, 1e23]
EDGES += [2.0**53 - 1, 2.0**53, 2.0**53 + 2, 1e-4, 1e-5, 1e-6, 9.5e-5, 4.35, 0.3, 1 / 3, 100.0, 123456789012345680.0]


def written(value: Any) -> bytes:
    batch = bson.encode({"": value})
    done, text, ends = transcoder.texts(batch)
    assert done == len(batch)
    assert ends == [len(text)]
    return text[4:-1]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(EDGES))
def test_a_double_has_the_fewest_digits_that_are_read_back(number: float) -> None:
    assert written(number) == orjson.dumps(number)


@pytest.mark.parametrize("kind", ["any bits", "powers of two", "measured", "short", "from floats", "whole"])
def test_many_doubles(kind: str) -> None:
    rng = np.random.default_rng(5)
    size = 50_000
    numbers = {
        "any bits": rng.integers(0, 0x7FF << 52, size, np.uint64).view(np.float64),
        "powers of two": np.ldexp(1.0, rng.integers(-1074, 1024, size)),
        "measured": rng.uniform(-360, 360, size),
        "short": np.round(rng.uniform(0, 1e6, size), 4),
        "from floats": rng.normal(18, 2, size).astype(np.float32).astype(float),
        "whole": rng.integers(-(10**17), 10**17, size).astype(float),
    }[kind].tolist()
    assert written(numbers) == orjson.dumps(numbers)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**31), 2**31))
def test_whole_numbers(number: int) -> None:
    assert written(number) == str(number).encode()


@given(st.text(st.characters(max_codepoint=127), max_size=30))
def test_ascii_is_escaped_as_elsewhere(text: str) -> None:
    assert written(text) == orjson.dumps(text)


@given(st.binary(max_size=800))
def test_stamps(content: bytes) -> None:
    assert json_util.loads(written(content).decode()) == content


@given(documents, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4), st.integers(0, 20))
def test_damaged_bytes_do_no_harm(document: dict[str, Any], changes: list[tuple[int, int]], cut: int) -> None:
    """Either it is what the driver reads, too, or an error."""
    damaged = bytearray(bson.encode(document))
    for position, byte in changes:
        damaged[position % len(damaged)] = byte
    raw = bytes(damaged[: len(damaged) - cut])
    try:
        decoded = bson.decode_all(raw, extjson.OPTIONS)
    except BSONError:
        with pytest.raises(BSONError):
            extjson.encode(raw)
        return
    expected = [json_util.dumps(each, json_options=RELAXED_JSON_OPTIONS) for each in decoded]
    assert same([json.loads(text) for text in extjson.encode(raw)], [json.loads(text) for text in expected])


@pytest.mark.parametrize("value", [Binary(b""), b"", None, "\x01" * 50, [], {}, -(2**63), float("-inf"), -1e-300])
def test_no_document_grows_beyond_its_room(value: Any) -> None:
    batch = b"".join(bson.encode({"": value, "list": [value] * 20}) for _ in range(200))
    _, text, _ = transcoder.texts(batch)
    assert len(text) <= transcoder.GROWTH * len(batch)
    assert len(orjson.loads(b"[" + text + b"]")) == 200


def test_what_is_too_deep_is_left_to_others() -> None:
    value: Any = 1
    for _ in range(transcoder.DEPTH + 10):
        value = {"a": value}
    plain = bson.encode({"a": 2})
    deep = bson.encode(value)
    assert transcoder.texts(plain + deep + plain)[0] == len(plain)
    text, count = extjson.encode_items(plain + deep + plain)
    assert count == 3
    assert orjson.loads(b"[" + text + b"]") == [{"a": 2}, value, {"a": 2}]
