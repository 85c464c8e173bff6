"""The watcher of TNS against a server that answers as TNS does."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from kowalski.watchers.errors import Malformed, Refused, Unavailable
from kowalski.watchers.tns import TnsWatcher

from .conftest import Remote, broken_off, status, whole

SEARCH, OBJECT = "/api/get/search", "/api/get/object"
ALL = "/system/files/tns_public_objects/tns_public_objects.csv.zip"
COLUMNS = [
    "objid", "name_prefix", "name", "ra", "declination", "redshift", "typeid", "type", "reporting_groupid",
    "reporting_group", "source_groupid", "source_group", "discoverydate", "discoverymag", "discmagfilter", "filter",
    "reporters", "time_received", "internal_names", "Discovery_ADS_bibcode", "Class_ADS_bibcodes", "creationdate",
    "lastmodified",
]  # fmt: skip


def days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def daily(days: int) -> str:
    return f"/system/files/tns_public_objects/tns_public_objects_{days_ago(days):%Y%m%d}.csv.zip"


def row(objid: int, **changes: Any) -> str:
    values: dict[str, Any] = {
        "objid": objid, "name_prefix": "SN", "name": f"2026a{objid}", "ra": 185.7288, "declination": 15.8236,
        "redshift": 0.0052, "typeid": 17, "type": "SN Ic", "reporting_groupid": 48, "reporting_group": "ZTF",
        "discoverydate": "2026-01-07 13:00:54.000", "discoverymag": 17.2, "discmagfilter": 110, "filter": "g-ZTF",
        "lastmodified": "2026-01-08 10:00:00",
    }  # fmt: skip
    values |= changes
    return ",".join(f'"{values.get(name, "")}"' for name in COLUMNS)


def table(*rows: str) -> bytes:
    text = "\r\n".join(['"2026-03-01 00:00:00 - 23:59:59"', ",".join(f'"{name}"' for name in COLUMNS), *rows, ""])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tns_public_objects.csv", text)
    return packed.getvalue()


def reply(content: Any, **changes: Any) -> bytes:
    return json.dumps({"id_code": 200, "id_message": "OK", "data": {"reply": content}} | changes).encode()


def answer(objid: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "objid": objid, "objname": f"2026a{objid}", "name_prefix": "AT", "ra": "12:22:54.912", "dec": "+15:49:24.96",
        "radeg": 185.7288, "decdeg": 15.8236, "redshift": None, "discoverydate": "2026-01-07 13:00:54.000",
        "object_type": {"id": None, "name": None},
    }  # fmt: skip
    return fields | changes


class Tns:
    """What TNS knows: who asks for an object gets it."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.objects: dict[str, Any] = {}
        remote.pages[SEARCH] = lambda request: self.found()
        remote.pages[OBJECT] = lambda request: self.one()

    def publish(self, *objids: int, **changes: Any) -> None:
        self.objects |= {f"2026a{objid}": answer(objid, **changes) for objid in objids}

    def found(self) -> web.Response:
        names = [{"objname": name, "prefix": "AT", "objid": each["objid"]} for name, each in self.objects.items()]
        return web.Response(body=reply(names), content_type="application/json")

    def one(self) -> web.Response:
        return web.Response(body=reply(self.objects[self.asked_for()[-1]]), content_type="application/json")

    def asked_for(self) -> list[str]:
        return [json.loads(each.form["data"])["objname"] for each in self.remote.asked if each.path == OBJECT]


@pytest.fixture
def tns(remote: Remote) -> Tns:
    return Tns(remote)


@pytest.fixture
def context(watched, remote: Remote):
    return watched("tns", url=remote.url, bot_id=7, bot_name="a bot", api_key="k", tables=False)


@pytest.fixture
def with_tables(watched, remote: Remote):
    return watched("tns", url=remote.url, bot_id=7, bot_name="a bot", api_key="k")


def test_what_is_published_is_asked_for_and_stored(tns: Tns, context) -> None:
    tns.publish(1, 2)
    outcome = TnsWatcher(context).once()
    assert outcome.new == 2
    found = context.data.TNS.find_one({"_id": 1})
    assert found["name"] == "AT 2026a1"
    assert found["discovery_date"].replace(tzinfo=UTC) == datetime(2026, 1, 7, 13, 0, 54, tzinfo=UTC)
    assert found["discovery_date_(ut)"] == "2026-01-07 13:00:54.000"
    assert found["object_type"] == {"id": None, "name": None}
    assert found["coordinates"]["radec_str"] == ["12:22:54.912", "+15:49:24.96"]
    assert found["coordinates"]["radec_geojson"]["coordinates"] == pytest.approx([5.7288, 15.8236])
    keys = {tuple(index["key"]) for index in context.data.TNS.list_indexes()}
    assert {("coordinates.radec_geojson", "_id"), ("discovery_date",), ("coordinates.hpx_14",)} < keys
    asked = tns.remote.asked[0]
    assert asked.headers["User-Agent"] == 'tns_marker{"tns_id": 7, "type": "bot", "name": "a bot"}'
    assert asked.form["api_key"] == "k"
    since = datetime.fromisoformat(json.loads(asked.form["data"])["public_timestamp"]).replace(tzinfo=UTC)
    assert timedelta(hours=3) <= datetime.now(UTC) - since < timedelta(hours=3, minutes=5)


def test_a_second_pass_asks_for_what_is_new_only(tns: Tns, context) -> None:
    tns.publish(1, 2)
    TnsWatcher(context).once()
    tns.publish(3)
    assert TnsWatcher(context).once().new == 1
    assert tns.asked_for() == ["2026a1", "2026a2", "2026a3"]


def test_a_pass_that_was_interrupted_goes_on(tns: Tns, context) -> None:
    tns.publish(1, 2, 3)
    tns.remote.says_first(OBJECT, lambda request: tns.one(), status(429, Retry_After="7200"))
    with pytest.raises(Unavailable) as caught:
        TnsWatcher(context).once()
    assert caught.value.pause == 7200.0
    tns.objects.pop("2026a2")  # no longer among what a search finds, but noted
    tns.remote.says_first(OBJECT, lambda request: web.Response(body=reply(answer(2))))
    assert TnsWatcher(context).once().new == 2
    assert tns.asked_for() == ["2026a1", "2026a2", "2026a2", "2026a3"]
    assert sorted(context.data.TNS.distinct("_id")) == [1, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        reply({"objname": {"110": {"message": "No results found."}}}),
        reply(answer(1, radeg=None)),
        reply(answer(1, decdeg=91.0)),
        reply(answer(1, discoverydate="long ago")),
        reply("x", id_code=400, id_message="Bad request"),
    ],
    ids=["no object", "no position", "off the sky", "no date", "refused"],
)
def test_one_that_is_none_holds_up_no_other(tns: Tns, context, bad: bytes) -> None:
    tns.publish(1, 2)
    tns.remote.says_first(OBJECT, lambda request: web.Response(body=bad))
    outcome = TnsWatcher(context).once()
    assert list(outcome.rejected) == ["2026a1"]
    assert context.data.TNS.distinct("_id") == [2]


def test_half_an_answer_is_asked_for_again(tns: Tns, context, waits: list[float]) -> None:
    tns.publish(1)
    whole_answer = reply(answer(1))
    tns.remote.says_first(OBJECT, broken_off(whole_answer, 50), lambda request: web.Response(body=whole_answer[:50]))
    assert TnsWatcher(context).once().new == 1
    assert len(waits) == 2


def test_wrong_keys_and_wrong_answers_end_the_pass(tns: Tns, context) -> None:
    tns.remote.says_first(SEARCH, status(401))
    with pytest.raises(Refused, match="credentials"):
        TnsWatcher(context).once()
    tns.remote.says_first(SEARCH, lambda request: web.Response(body=reply({"a": 1})))
    with pytest.raises(Malformed):
        TnsWatcher(context).once()
    assert "searched_at" not in context.memory.load()


def test_tables_are_loaded_once_and_then_by_day(tns: Tns, with_tables) -> None:
    tns.remote.pages[ALL] = table(row(1), row(2, name_prefix="AT", redshift=""), row(3, declination="99"))
    outcome = TnsWatcher(with_tables).once()
    assert outcome.new == 2
    assert list(outcome.rejected) == ["line 5 (2026a3)"]
    one = with_tables.data.TNS.find_one({"_id": 1})
    assert (one["name"], one["redshift"], one["object_type"]) == ("SN 2026a1", 0.0052, {"id": 17, "name": "SN Ic"})
    assert one["coordinates"]["radec_str"] == ["12:22:54.9120", "15:49:24.960"]
    assert TnsWatcher(with_tables).once().new == 0
    assert tns.remote.paths().count(ALL) == 1
    with_tables.memory.save(tables_until=f"{days_ago(3):%Y-%m-%d}")
    tns.remote.pages[daily(2)] = table(row(4, type="SN II"))  # that of yesterday is not there yet
    assert TnsWatcher(with_tables).once().new == 1
    four = with_tables.data.TNS.find_one({"_id": 4})
    assert four["object_type"]["name"] == "SN II"
    assert with_tables.memory.load()["tables_until"] == f"{days_ago(2):%Y-%m-%d}"
    assert not list(with_tables.scratch.iterdir())


def test_a_day_that_is_missing_for_good_is_made_up_for(tns: Tns, with_tables) -> None:
    with_tables.memory.save(tables_until=f"{days_ago(4):%Y-%m-%d}")
    tns.remote.pages[ALL] = table(row(1))
    assert TnsWatcher(with_tables).once().new == 1
    assert tns.remote.paths()[:2] == [daily(3), ALL]


def test_a_table_does_not_overwrite_what_is_known_since(tns: Tns, with_tables) -> None:
    tns.publish(1, name_prefix="SN", object_type={"id": 3, "name": "SN Ia"})
    with_tables.memory.save(tables_until=f"{days_ago(2):%Y-%m-%d}")
    TnsWatcher(with_tables).once()
    tns.remote.pages[daily(1)] = table(row(1, type="", typeid="", discoverymag=19.5))
    TnsWatcher(with_tables).once()
    found = with_tables.data.TNS.find_one({"_id": 1})
    assert found["object_type"]["name"] == "SN Ia"
    assert found["discoverymag"] == 19.5  # what only the table has is added


def test_a_table_that_broke_off_is_loaded_whole_or_not(tns: Tns, with_tables) -> None:
    content = table(*(row(number) for number in range(1, 200)))
    tns.remote.says_first(ALL, broken_off(content, len(content) // 2))
    tns.remote.pages[ALL] = content
    assert TnsWatcher(with_tables).once().new == 199
    with_tables.memory.save(tables_until=f"{days_ago(2):%Y-%m-%d}")
    for garbled in (content[: len(content) // 2], b"<html>", table()[:-1]):
        tns.remote.pages[daily(1)] = whole(garbled)
        with pytest.raises(Malformed, match="no table of TNS"):
            TnsWatcher(with_tables).once()
    assert with_tables.memory.load()["tables_until"] == f"{days_ago(2):%Y-%m-%d}"
