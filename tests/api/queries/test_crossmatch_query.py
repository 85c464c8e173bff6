"""A user's table matched with a catalog: what a comparison of every row with every source gives, or a clear refusal."""

from __future__ import annotations

import csv
import io
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from bson import json_util
from pyarrow import parquet
from pymongo import MongoClient

from kowalski.api.queries import together
from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.config.serving import Ceilings
from kowalski.ingesters.cells import add_cells
from kowalski.science.coordinates import Floats

SOURCES, ROWS = 400, 300
RADIUS = 3.0
PARQUET = "application/vnd.apache.parquet"
Pairs = set[tuple[int, int]]


def sky() -> tuple[Floats, Floats]:
    """Positions all over the sky, many of them at a pole and where right ascension starts again."""
    rng = np.random.default_rng(11)
    ra, dec = rng.uniform(0, 360, SOURCES), np.degrees(np.arcsin(rng.uniform(-1, 1, SOURCES)))
    dec[:50] = 90.0 - rng.exponential(0.002, 50)
    ra[50:120] = rng.choice([0.0, 1e-5, 359.99999], 70)
    return ra, dec


def rows() -> tuple[Floats, Floats]:
    """Rows of a table: some arcsec from sources, some far from any, and some twice."""
    ra, dec = (each[:ROWS] for each in sky())
    rng = np.random.default_rng(12)
    angle, apart = rng.uniform(0, 360, ROWS) * u.deg, rng.uniform(0.0, 6.0, ROWS) * u.arcsec
    moved = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle, apart)
    ra, dec = np.array(moved.ra.deg), np.array(moved.dec.deg)
    ra[-5:], dec[-5:] = ra[:5], dec[:5]
    return ra, dec


def expected() -> Pairs:
    """Compare every row with every source (Astropy's separations)."""
    there, found = SkyCoord(*rows(), unit="deg"), SkyCoord(*sky(), unit="deg")
    left, right = np.nonzero(there[:, None].separation(found[None, :]).arcsec <= RADIUS)
    return set(zip(left.tolist(), right.tolist(), strict=True))


@pytest.fixture
def archive(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Settings:
    """Two catalogs of the same sources, with and without cells; alerts of two programs; one without positions."""
    data = data_database(mongo, settings)
    documents = [
        {
            "_id": n,
            "mag": n % 7,
            "candidate": {"programid": 1 + n % 2},
            "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]}},
        }
        for n, (ra, dec) in enumerate(np.transpose(sky()).tolist())
    ]
    for name in ("cells", "geometry", "ZTF_alerts"):
        data[name].insert_many(documents)
        data[name].create_index([("coordinates.radec_geojson", "2dsphere")])
    add_cells(data["cells"], [14])
    data["bare"].insert_one({"_id": 1})
    return settings


def as_csv(ra: Any, dec: Any, names: str = "name,ra,dec") -> bytes:
    return (
        names + "\n" + "".join(f"row {n},{a!r},{d!r}\n" for n, (a, d) in enumerate(zip(ra, dec, strict=True)))
    ).encode()


def as_parquet(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


async def send(user: Any, table: bytes, media: str = "text/csv", accept: str = "*/*", **wanted: Any) -> Any:
    """Send a table, and give status, content type and body."""
    headers = {"Authorization": user.token, "Content-Type": media, "Accept": accept}
    params = {"radius": RADIUS, **wanted}
    async with user.http.request(
        "POST", "/api/queries/crossmatch", params=params, data=table, headers=headers
    ) as answer:
        return answer.status, answer.content_type, await answer.read()


async def match(user: Any, table: bytes, media: str = "text/csv", **wanted: Any) -> list[dict[str, Any]]:
    status, _, body = await send(user, table, media, **wanted)
    assert status == 200, body
    return list(json_util.loads(body)["data"])


async def refusal(user: Any, table: bytes, media: str = "text/csv", **wanted: Any) -> tuple[int, str]:
    status, kind, body = await send(user, table, media, **{"catalog": "cells", **wanted})
    assert kind == "application/json"
    answer = json_util.loads(body)
    assert answer["status"] == "error", answer
    assert "Traceback" not in answer["message"]
    return status, answer["message"]


def pairs(found: list[dict[str, Any]]) -> Pairs:
    assert len({(each["row"], each["match"]["_id"]) for each in found}) == len(found)
    return {(each["row"], each["match"]["_id"]) for each in found}


async def test_pairs_are_those_of_every_row_with_every_source(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ra, dec = map(np.ndarray.tolist, rows())
    there = expected()
    assert ROWS // 3 < len(there) < ROWS * 2
    monkeypatch.setattr("kowalski.api.queries.crossmatch.POSITIONS", 120)  # several commands
    sent = as_parquet({"ID": list(range(ROWS)), "RA": [str(each) for each in ra], "DEC": dec, "other": [[1]] * ROWS})
    for catalog in ("cells", "geometry"):
        found = await match(user, as_csv(ra, dec), catalog=catalog, id="name")
        assert pairs(found) == there
        assert all(each["id"] == f"row {each['row']}" for each in found)
        assert found == sorted(found, key=lambda each: (each["row"], each["separation"]))
        for each in found:
            assert (each["ra"], each["dec"]) == (ra[each["row"]], dec[each["row"]])
            lon, lat = each["match"]["coordinates"]["radec_geojson"]["coordinates"]
            apart = SkyCoord(each["ra"], each["dec"], unit="deg").separation(SkyCoord(lon + 180.0, lat, unit="deg"))
            assert each["separation"] == pytest.approx(apart.arcsec, abs=1e-6)
        again = await match(user, sent, PARQUET, catalog=catalog, id="ID", projection='{"_id": 1}')
        assert [each["id"] for each in again] == [each["row"] for each in found]
        assert pairs(again) == there
        assert again[0]["match"].keys() == {"_id"}


async def test_filter_limit_and_units(user: Any) -> None:
    ra, dec = rows()
    table = as_csv(ra.tolist(), dec.tolist(), "name,α,δ")
    named = {"catalog": "cells", "ra": "α", "dec": "δ"}
    found = await match(user, table, **named, filter='{"mag": {"$lt": 3}}', projection='["mag"]')
    assert pairs(found) == {(row, source) for row, source in expected() if source % 7 < 3}
    wide = await match(user, table, **named, radius=5.0, radius_units="arcmin")
    nearest = await match(user, table, **named, radius=5.0, radius_units="arcmin", limit=1)
    first = {each["row"]: each for each in reversed(wide)}
    assert len(wide) > len(nearest) == len(first)
    assert nearest == [first[row] for row in sorted(first)]


async def test_too_much_at_once_is_searched_in_halves(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ra, dec = map(np.ndarray.tolist, rows())
    monkeypatch.setattr(together, "HELD", 20_000)
    assert pairs(await match(user, as_csv(ra, dec), catalog="cells")) == expected()
    monkeypatch.setattr(together, "HELD", 10)
    status, message = await refusal(user, as_csv(ra[60:61], dec[60:61]), radius=60)
    assert status == 400
    assert "around row 0 (from 0) there are more than 10 bytes" in message


async def test_every_format_of_answers_tells_the_same(user: Any) -> None:
    ra, dec = map(np.ndarray.tolist, rows())
    asked = {"catalog": "cells", "id": "name", "projection": '{"mag": 1}'}
    found = await match(user, as_csv(ra, dec), **asked)
    flat = [
        {**{name: each[name] for name in ("row", "id", "ra", "dec", "separation")}, **_prefixed(each["match"])}
        for each in found
    ]
    answers = {}
    for accept in ("application/x-ndjson", "text/csv", PARQUET):
        status, kind, answers[accept] = await send(user, as_csv(ra, dec), accept=accept, **asked)
        assert (status, kind) == (200, accept)
    lines = answers["application/x-ndjson"].decode().splitlines()
    assert [json_util.loads(line) for line in lines] == found
    table = list(csv.DictReader(io.StringIO(answers["text/csv"].decode())))
    assert table == [{name: str(value) for name, value in each.items()} for each in flat]
    assert parquet.read_table(io.BytesIO(answers[PARQUET])).to_pylist() == flat


def _prefixed(document: dict[str, Any]) -> dict[str, Any]:
    return {f"match.{name}": value for name, value in document.items()}


async def test_positions_may_be_sexagesimal_and_tables_may_be_empty(user: Any) -> None:
    ra, dec = sky()
    place = SkyCoord(ra[200:203], dec[200:203], unit="deg")
    texts = zip(
        place.ra.to_string("hour", sep=":", precision=4), place.dec.to_string(sep=":", precision=4, alwayssign=True),
        strict=True,
    )  # fmt: skip
    written = "\ufeff" + 'id,"r.a.",dec\r\n' + "".join(f'"a, {n}",{a},{d}\r\n' for n, (a, d) in enumerate(texts))
    found = await match(user, written.encode(), catalog="cells", id="id", limit=1)
    assert [(each["id"], each["match"]["_id"]) for each in found] == [("a, 0", 200), ("a, 1", 201), ("a, 2", 202)]
    assert await match(user, b"ra,dec\n", catalog="cells") == []
    assert (
        await match(user, as_parquet({"ra": pa.array([], "f8"), "dec": pa.array([], "f8")}), PARQUET, catalog="cells")
        == []
    )


async def test_alerts_of_other_programs_are_hidden(user: Any, admin: Any) -> None:
    ra, dec = map(np.ndarray.tolist, rows())
    seen = await match(user, as_csv(ra, dec), catalog="ZTF_alerts")
    assert pairs(seen) == {(row, source) for row, source in expected() if source % 2 == 0}
    assert pairs(await match(admin, as_csv(ra, dec), catalog="ZTF_alerts")) == expected()
    asked = '{"candidate.programid": 2}'
    assert await match(user, as_csv(ra, dec), catalog="ZTF_alerts", filter=asked) == []


async def test_ceilings_hold_by_role(archive: Settings, user: Any, admin: Any) -> None:
    archive.queries.max_rows = 5
    archive.queries.max_table_rows = ROWS - 1
    archive.queries.roles["admin"] = Ceilings(max_table_rows=ROWS, max_rows=1000)
    ra, dec = map(np.ndarray.tolist, rows())
    for table, media in ((as_csv(ra, dec), "text/csv"), (as_parquet({"ra": ra, "dec": dec}), PARQUET)):
        status, message = await refusal(user, table, media)
        assert (status, message) == (
            400, f"ValidationError: the table has {ROWS} rows; at most {ROWS - 1} are matched at once",
        )  # fmt: skip
        assert len(await match(admin, table, media, catalog="cells")) == len(expected())
    status, message = await refusal(user, as_csv(ra[:100], dec[:100]), radius=60)
    assert status == 400
    assert "more than 5 documents" in message


BAD = {
    "no columns of positions": (b"a,b\n1,2\n", {}, "no columns of positions"),
    "no such column": (b"ra,dec\n1,2\n", {"ra": "RA"}, "ra: the table has no column 'RA'; it has ra, dec"),
    "no such id": (b"ra,dec\n1,2\n", {"id": "x"}, "id: the table has no column 'x'"),
    "column twice": (b"ra,dec,ra\n1,2,3\n", {}, "the table has 2 columns 'ra'"),
    "no number": (b"ra,dec\n1,2\nabc,2\n", {}, "row 1 (from 0): ra is neither a number nor like"),
    "nothing": (b"ra,dec\n1,2\n,2\n", {}, "row 1 (from 0) has no ra"),
    "not a number": (b"ra,dec\n1,nan\n", {}, "row 0 (from 0): right ascension is 0 to 360"),
    "out of range": (b"ra,dec\n1,2\n1,90.1\n", {}, "row 1 (from 0): right ascension is 0 to 360"),
    "ragged": (b"ra,dec\n1,2\n1,2,3\n", {}, "row 1 (from 0) has 3 values instead of 2"),
    "empty": (b"", {}, "no columns of positions"),
    "not text": (b"ra,dec\n\xff\xfe,2\n", {}, "the table can't be read as CSV"),
    "long id": (b"id,ra,dec\n" + b"x" * 300 + b",1,2\n", {"id": "id"}, "a text in 'id' has more than 200"),
    "radius": (b"ra,dec\n1,2\n", {"radius": "-1"}, "radius: Input should be greater than 0"),
    "wide": (b"ra,dec\n1,2\n", {"radius": 11, "radius_units": "arcmin"}, "radius: at most 600 arcsec"),
    "unit": (b"ra,dec\n1,2\n", {"radius_units": "mas"}, "Angular units not in"),
    "unknown parameter": (b"ra,dec\n1,2\n", {"radius_unit": "deg"}, "radius_unit: Extra inputs"),
    "filter": (b"ra,dec\n1,2\n", {"filter": "{"}, "filter: neither JSON nor"),
    "script": (b"ra,dec\n1,2\n", {"filter": '{"$where": "1"}'}, "$where is not allowed"),
    "by match": (b"ra,dec\n1,2\n", {"projection": '{"a.$": 1}'}, "can't be chosen by what has matched"),
    "protected": (b"ra,dec\n1,2\n", {"catalog": "users"}, "Protected collection"),
    "no catalog": (b"ra,dec\n1,2\n", {"catalog": "nowhere"}, "there is no catalog nowhere"),
    "no positions": (b"ra,dec\n1,2\n", {"catalog": "bare"}, "bare has no index of positions"),
}


async def test_bad_tables_and_questions_are_refused_with_a_reason(archive: Settings, user: Any) -> None:
    for name, (table, wanted, reason) in BAD.items():
        status, message = await refusal(user, table, **wanted)
        assert status == 400, name
        assert reason in message, name
    await _bad_parquet_is_refused(user)
    status, message = await refusal(user, b"{}", "application/json")
    assert (status, message) == (
        415, "Content-Type is text/csv or application/vnd.apache.parquet, not application/json",
    )  # fmt: skip
    too_large = b"ra,dec\n" + b"1,2\n" * (archive.server.client_max_size // 4)
    assert (await refusal(user, too_large))[0] == 413


async def _bad_parquet_is_refused(user: Any) -> None:
    good = as_parquet({"ra": [1.0], "dec": [2.0]})
    for table, wanted, reason in (
        (b"PAR1", {}, "can't be read as Parquet"),
        (good[:-12] + b"\xff" * 8 + b"PAR1", {}, "can't be read as Parquet"),
        (as_parquet({"ra": [[1.0]], "dec": [2.0]}), {}, "neither numbers nor texts"),
        (as_parquet({"ra": [1.0, None], "dec": [2.0, 3.0]}), {}, "row 1 (from 0) has no ra"),
        (as_parquet({"ra": [1.0], "dec": [2.0], "x": [0.5]}), {"id": "x"}, "neither whole numbers nor texts"),
        (as_parquet({"ra": [1.0], "dec": [2.0], "x": pa.array([2**63], "u8")}), {"id": "x"}, "do not fit into 64"),
        (as_parquet({"ra": [1.0], "dec": [2.0], "x": ["y" * 300]}), {"id": "x"}, "more than 200 characters"),
        (as_parquet({"ra": ["1" * 300] * 9, "dec": [2.0] * 9}), {}, "a text in 'ra' has more than 200 characters"),
    ):
        status, message = await refusal(user, table, PARQUET, **wanted)
        assert status == 400, reason
        assert reason in message
