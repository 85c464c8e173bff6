"""Answers of any size over HTTP: as they come, in the format and coding asked for, and what ends them early."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import cramjam
import pytest
from bson import json_util
from pyarrow import parquet
from pymongo import MongoClient

from kowalski.api import streaming
from kowalski.archive.client import Role, connect, data_database
from kowalski.config import Settings

FIND = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {}}, "kwargs": {"sort": [["_id", 1]]}}
CONES = {
    "query_type": "cone_search",
    "query": {
        "object_coordinates": {
            "radec": {"a": [150.0, 20.0], "b": [150.5, 20.0], "c": [152.0, 20.0]},
            "cone_search_radius": 2,
            "cone_search_unit": "arcsec",
        },
        "catalogs": {"ZTF_alerts": {"projection": {"candid": 1}}, "Gaia_EDR3": {"projection": {"mag": 1}}},
    },
}
COUNT = 3000
LARGE = {"query_type": "find", "query": {"catalog": "large", "filter": {}}}
LINES, CSV, PARQUET = "application/x-ndjson", "text/csv", "application/vnd.apache.parquet"


@pytest.fixture
def large(archive: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    """A catalog that no answer holds at once."""
    text = "x" * (12 * streaming.BUFFER // COUNT)
    data_database(mongo, archive)["large"].insert_many([{"_id": n, "text": text, "none": None} for n in range(COUNT)])


async def asked(user: Any, body: Any, **headers: str) -> tuple[int, str, bytes]:
    """Send a query; gives status, content type and body as it was sent."""
    headers = {"Authorization": user.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
    skipped = ("Accept-Encoding",)
    async with user.http.post("/api/queries", json=body, headers=headers, skip_auto_headers=skipped) as answer:
        return answer.status, answer.content_type, await answer.read()


async def found(user: Any, body: Any) -> Any:
    status, _, text = await asked(user, body)
    assert status == 200, text
    return json_util.loads(text.decode())["data"]


async def received(answer: aiohttp.ClientResponse) -> tuple[bytes, aiohttp.ClientError | None]:
    """What comes of an answer, and how it ended."""
    text = b""
    try:
        while piece := await answer.content.readany():
            text += piece
    except aiohttp.ClientError as error:
        return text, error
    return text, None


async def test_lines(user: Any) -> None:
    status, kind, text = await asked(user, FIND, Accept=LINES)
    assert (status, kind) == (200, LINES)
    assert [json_util.loads(line) for line in text.decode().splitlines()] == await found(user, FIND)
    _, _, text = await asked(user, CONES, Accept=LINES)
    assert [json.loads(line) for line in text.splitlines()] == [
        {"_catalog": "ZTF_alerts", "_object": "a", "_id": 1105522281015015000, "candid": 1105522281015015000},
        {"_catalog": "ZTF_alerts", "_object": "c", "_id": 1105522281015015002, "candid": 1105522281015015002},
        {"_catalog": "Gaia_EDR3", "_object": "a", "_id": 0, "mag": 0},
        {"_catalog": "Gaia_EDR3", "_object": "c", "_id": 2, "mag": 2},
    ]
    info = {"query_type": "info", "query": {"command": "catalog_names"}}
    _, _, text = await asked(user, info, Accept=LINES)
    assert json.loads(text) == await found(user, info)


async def test_tables(user: Any) -> None:
    documents = await found(user, FIND)
    status, kind, text = await asked(user, FIND, Accept=CSV)
    assert (status, kind) == (200, CSV)
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert [int(row["candid"]) for row in rows] == [document["candid"] for document in documents]
    assert [float(row["candidate.jd"]) for row in rows] == [document["candidate"]["jd"] for document in documents]
    pipeline = {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": [{"$sort": {"_id": 1}}]}}
    for body, accept in ((FIND, PARQUET), (pipeline, f"application/json;q=0.5, {PARQUET}")):
        status, kind, text = await asked(user, body, Accept=accept)
        assert (status, kind) == (200, PARQUET)
        table = parquet.read_table(io.BytesIO(text)).to_pydict()
        assert table["candid"] == [document["candid"] for document in documents]
        assert table["cutoutScience.stampData"] == [document["cutoutScience"]["stampData"] for document in documents]
    _, _, text = await asked(user, CONES, Accept=CSV)
    assert text.decode().splitlines() == [
        "_catalog,_object,_id,candid,mag",
        "ZTF_alerts,a,1105522281015015000,1105522281015015000,",
        "ZTF_alerts,c,1105522281015015002,1105522281015015002,",
        "Gaia_EDR3,a,0,,0",
        "Gaia_EDR3,c,2,,2",
    ]


async def test_what_is_no_table_is_refused_and_not_done(user: Any, admin: Any) -> None:
    drop = {"query_type": "drop", "query": {"catalog": "Gaia_EDR3"}}
    for body in ({"query_type": "info", "query": {"command": "catalog_names"}}, drop):
        status, kind, text = await asked(admin, body, Accept=CSV)
        assert (status, kind, json.loads(text)["status"]) == (406, "application/json", "error")
    count = {"query_type": "count_documents", "query": {"catalog": "Gaia_EDR3", "filter": {}}}
    assert await found(user, count) == 10
    for accept in ("text/html", "image/*", "*/*;q=0.1", "nonsense"):
        assert (await asked(user, count, Accept=accept))[:2] == (200, "application/json")


async def test_compressed(user: Any, large: None) -> None:
    for body in (FIND, LARGE, {**LARGE, "kwargs": {"limit": 1}}):
        _, _, plain = await asked(user, body)
        for coding, decode in (("gzip", gzip.decompress), ("zstd", cramjam.zstd.decompress)):
            headers = {"Authorization": user.token, "Accept-Encoding": coding}
            async with user.http.session.post(
                user.http.make_url("/api/queries"), json=body, headers=headers, auto_decompress=False
            ) as answer:
                assert answer.headers["Content-Encoding"] == coding
                assert "Accept-Encoding" in answer.headers["Vary"]
                text = await answer.read()
            assert bytes(decode(text)) == plain
            assert len(text) < len(plain) / 2


async def test_a_large_answer_is_sent_as_it_comes_and_others_get_theirs_meanwhile(large: None, user: Any) -> None:
    async with user.http.post("/api/queries", json=LARGE, headers={"Authorization": user.token}) as answer:
        assert "Content-Length" not in answer.headers
        start = await answer.content.read(1)
        assert (await user("GET", "/"))[0] == 200  # nobody has read the rest yet, nor can it all be on its way
        assert not answer.content.at_eof()
        result = json.loads(start + await answer.read())
    assert (result["status"], [row["_id"] for row in result["data"]]) == ("success", list(range(COUNT)))


BROKEN = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


async def test_an_answer_that_breaks_off_is_no_answer(archive: Settings, large: None, user: Any) -> None:
    archive.queries.max_rows = COUNT - 1
    why = f"the answer has more than {COUNT - 1} documents; use limit and skip"
    for coding in ("identity", "gzip"):
        with pytest.raises(BROKEN):
            await asked(user, LARGE, Accept_Encoding=coding)
        headers = {"Authorization": user.token, "Accept": LINES, "Accept-Encoding": coding}
        async with user.http.post("/api/queries", json=LARGE, headers=headers) as answer:
            text, error = await received(answer)
        assert isinstance(error, BROKEN)
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["_id"] for line in lines[:-1]] == list(range(len(lines) - 1))
        assert lines[-1] == {"$error": why}
    for accept in (CSV, PARQUET):  # which are complete before they are sent
        status, kind, text = await asked(user, LARGE, Accept=accept)
        assert (status, kind, json.loads(text)["message"]) == (400, "application/json", why)


async def test_an_error_before_anything_was_sent_has_its_status(user: Any) -> None:
    late = [{"$sort": {"_id": 1}}, {"$project": {"x": {"$divide": [1, {"$subtract": ["$candidate.ra", 159]}]}}}]
    body = {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": late}, "kwargs": {"batchSize": 1}}
    for accept in ("application/json", LINES, CSV, PARQUET):
        status, _, text = await asked(user, body, Accept=accept)
        assert (status, json.loads(text)["message"].partition(":")[0]) == (400, "OperationFailure")


@pytest.fixture
async def running(archive: Settings) -> AsyncIterator[Callable[[], list[str]]]:
    """What MongoDB does for vera at the moment: running operations and open cursors."""
    stages = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {"$match": {"$or": [{"command.comment": "vera"}, {"cursor.originatingCommand.comment": "vera"}]}},
    ]
    with connect(archive, Role.ADMIN) as mongo:
        yield lambda: [each["type"] for each in mongo.admin.aggregate(stages)]


SLOW = {"$expr": {"$gt": [{"$size": {"$range": [0, {"$add": [1_000_000, "$_id"]}]}}, 0]}}
MANY = [{"$unionWith": "large"}] * 20


async def test_a_client_that_leaves_ends_its_query(large: None, user: Any, running: Callable[[], list[str]]) -> None:
    async def ask(body: Any) -> None:
        async with user.http.post("/api/queries", json=body, headers={"Authorization": user.token}):
            await asyncio.Event().wait()  # the rest is not read: the database waits for the client

    for kind, query in (
        ("find", {"catalog": "large", "filter": SLOW}),
        ("count_documents", {"catalog": "large", "filter": SLOW}),
        ("aggregate", {"catalog": "large", "pipeline": MANY}),
        ("aggregate", {"catalog": "large", "pipeline": [{"$match": SLOW}, {"$group": {"_id": "$text"}}]}),
    ):
        asking = asyncio.create_task(ask({"query_type": kind, "query": query}))
        await until(lambda: bool(running()))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: not running(), kind)
        assert (await user("GET", "/"))[0] == 200


async def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
