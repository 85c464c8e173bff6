"""Container files decode to what the reference reader gives, and damage is told, never passed on."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kowalski.broker.avro import Decoder
from kowalski.surveys.base import PacketError

SCHEMA = {
    "type": "record",
    "name": "packet",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "value", "type": ["null", "double", "string"]},
        {"name": "stamp", "type": "bytes"},
        {"name": "rows", "type": {"type": "array", "items": {"type": "map", "values": ["null", "float"]}}},
    ],
}
records = st.fixed_dictionaries(
    {
        "number": st.integers(-(2**63), 2**63 - 1),
        "value": st.none() | st.floats(allow_nan=False) | st.text(),
        "stamp": st.binary(max_size=200),
        "rows": st.lists(
            st.dictionaries(st.text(max_size=5), st.none() | st.floats(width=32, allow_nan=False)), max_size=5
        ),
    }
)


def container(found: list[dict[str, Any]], codec: str = "null") -> bytes:
    buffer = io.BytesIO()
    fastavro.writer(buffer, SCHEMA, found, codec=codec)
    return buffer.getvalue()


def same(one: Any, other: Any) -> bool:
    """Equal in type and value; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@given(st.lists(records, min_size=1, max_size=4), st.sampled_from(["null", "deflate", "snappy", "bzip2", "xz"]))
@settings(max_examples=150, deadline=None)
def test_any_record_in_any_codec_reads_back(found: list[dict[str, Any]], codec: str) -> None:
    assert same(Decoder().records(container(found, codec)), list(fastavro.reader(io.BytesIO(container(found, codec)))))


@given(st.lists(records, min_size=1, max_size=2), st.data())
@settings(max_examples=150, deadline=None)
def test_a_cut_file_is_refused(found: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = container(found)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(PacketError):
        Decoder().records(cut)


@given(st.binary(max_size=300), st.lists(records, min_size=1, max_size=1), st.data())
@settings(max_examples=200, deadline=None)
def test_damage_never_ends_in_another_error(noise: bytes, found: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = bytearray(container(found))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + len(noise)] = noise
    for value in (bytes(whole), noise, b"Obj\x01" + noise):
        with contextlib.suppress(PacketError):
            assert Decoder().records(value)


def test_a_block_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kowalski.broker.avro.MAX_BLOCK", 10_000)
    bomb = {"number": 1, "value": None, "stamp": bytes(1_000_000), "rows": []}
    for codec in ("deflate", "snappy", "bzip2", "xz"):
        with pytest.raises(PacketError, match=r"expands to more than|is cut"):
            Decoder().records(container([bomb], codec))


def test_every_sample_packet_equals_the_reference(sample_data: Path) -> None:
    """All surveys; schemas with forbidden defaults are read with a corrected one."""
    decoder, compared = Decoder(), 0
    for path in sorted(sample_data.glob("*_alerts/**/*.avro")):
        value = path.read_bytes()
        if not value.startswith(b"Obj\x01") or path.parent.name == "damaged":
            continue
        read = decoder.records(value)
        try:
            expected = list(fastavro.reader(io.BytesIO(value)))
        except fastavro.schema.SchemaParseException:  # null is the default of fields that can't be null
            expected = Decoder(fast=False).records(value)
        assert same(read, expected), path
        compared += len(read)
    assert compared > 600


def test_damaged_samples_are_refused(sample_data: Path) -> None:
    damaged = sorted((sample_data / "ztf_alerts" / "damaged").glob("*"))
    assert damaged
    for path in damaged:
        with pytest.raises(PacketError, match="cut or damaged"):
            Decoder().records(path.read_bytes())
