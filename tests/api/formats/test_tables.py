"""CSV and Parquet hold what the documents hold, whatever these are like."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson import DatetimeMS, Decimal128, Int64, ObjectId
from pyarrow import parquet

from kowalski.api.formats import FORMATS, tables
from kowalski.api.formats.encoder import Encoder
from kowalski.api.results import Match, Matches, Result, Rows, Value

from .conftest import stream

KEY = ObjectId("0123456789abcdef01234567")
BIG = 2**53 + 1
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": 1, "text": 'a,"b"\nc', "mag": 18, "deep": {"x": {"y": 1.5}, "none": {}}, "list": [1, 2.5], "mixed": 1},
    {"_id": Int64(BIG), "mag": 18.25, "key": KEY, "date": datetime(2020, 1, 2, 3, 4, 5, 678000), "mixed": "1"},
    {"_id": 3, "bytes": b"\0\xff", "flag": True, "list": [], "none": None, "price": Decimal128("1.10"), "a.b": 1},
    {"_id": 4, "rows": [{"jd": 1.0}], "keys": [KEY], "a": {"b": 2}, "huge": BIG, "late": DatetimeMS(2**53)},
    {"_id": 5, "huge": 0.5},
]


def rows() -> Rows:
    """One document per batch, some of them decoded."""
    return Rows(stream([bson.encode(each) if i % 2 else [each] for i, each in enumerate(DOCUMENTS)]))


async def written(kind: str, result: Result, encoder: Encoder) -> bytes:
    return b"".join([piece async for piece in FORMATS[kind].pieces("fine", result, encoder)])


@pytest.fixture(params=[1, 2**20])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are kept in a file, or in memory."""
    monkeypatch.setattr(tables, "IN_MEMORY", request.param)


async def test_csv(encoder: Encoder, memory: None) -> None:
    text = (await written("text/csv", rows(), encoder)).decode()
    one, two, three, four, five = csv.DictReader(io.StringIO(text, newline=""))
    assert (one["text"], one["mag"], one["deep.x.y"], one["deep.none"], one["list"]) == (
        'a,"b"\nc',
        "18",
        "1.5",
        "{}",
        "[1,2.5]",
    )
    assert (two["_id"], two["key"], two["date"]) == (str(BIG), str(KEY), "2020-01-02T03:04:05.678Z")
    assert (three["bytes"], three["flag"], three["none"], three["price"]) == (
        "AP8=",
        "true",
        "",
        '{"$numberDecimal":"1.10"}',
    )
    assert (three["a.b"], four["a.b"], four["rows"], four["late"]) == ("1", "2", '[{"jd":1.0}]', str(2**53))
    assert (five["huge"], five["text"]) == ("0.5", "")


async def test_parquet(encoder: Encoder, memory: None) -> None:
    table = parquet.read_table(io.BytesIO(await written("application/vnd.apache.parquet", rows(), encoder)))
    types = {name: table.schema.field(name).type for name in table.column_names}
    assert (types["_id"], types["mag"], types["list"]) == (pa.int64(), pa.float64(), pa.list_(pa.float64()))
    assert (types["date"], types["bytes"], types["flag"]) == (pa.timestamp("ms", "UTC"), pa.binary(), pa.bool_())
    one, two, three, four, five = table.drop(["late"]).to_pylist()  # Python has no such year
    assert (one["text"], one["mag"], one["deep.x.y"], one["list"], one["mixed"]) == (
        'a,"b"\nc',
        18.0,
        1.5,
        [1.0, 2.5],
        "1",
    )
    assert (two["_id"], two["key"], two["mixed"]) == (BIG, str(KEY), '"1"')
    assert two["date"].replace(tzinfo=None) == DOCUMENTS[1]["date"]
    assert (three["bytes"], three["flag"], three["list"], three["none"]) == (b"\0\xff", True, [], None)
    assert json.loads(three["price"]) == {"$numberDecimal": "1.10"}
    assert (json.loads(four["rows"]), four["keys"], four["huge"], five["huge"]) == (
        [{"jd": 1.0}],
        [str(KEY)],
        str(BIG),
        "0.5",
    )


async def test_what_is_found_around_positions(encoder: Encoder) -> None:
    found = [Match("stars", "a", [{"mag": 1}]), Match("stars", "b", []), Match("galaxies", "a", [{"z": 0.1}])]
    text = await written("text/csv", Matches(["stars", "galaxies"], stream(found)), encoder)
    assert text.decode().splitlines() == ["_catalog,_object,mag,z", "stars,a,1,", "galaxies,a,,0.1"]


async def test_nothing_is_an_empty_table(encoder: Encoder) -> None:
    assert await written("text/csv", Rows(stream([])), encoder) == b""
    empty = await written("application/vnd.apache.parquet", Rows(stream([])), encoder)
    assert parquet.read_table(io.BytesIO(empty)).num_rows == 0


async def test_a_value_is_no_table(encoder: Encoder) -> None:
    for kind in ("text/csv", "application/vnd.apache.parquet"):
        with pytest.raises(tables.NotAcceptableError):
            await written(kind, Value(3), encoder)
