"""Backups of a real MongoDB come back as they were."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from fsspec.registry import _registry
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st
from pymongo.database import Database

from kowalski.archive.client import data_database, system_database
from kowalski.dumps import backup, chunks, manifest, restore
from kowalski.dumps.backup import RAW, Wanted
from kowalski.dumps.errors import DumpError
from kowalski.dumps.places import Place
from kowalski.dumps.verify import verify
from kowalski.migrations import registry

Document = dict[str, Any]
Archive = Any
"""Of `conftest`: settings and a client."""


def ignore(*_: Any) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Archive]) -> Archive:
    return new_archive()


@pytest.fixture
def data(archive: Archive) -> Iterator[Database[Document]]:
    """The data database, emptied afterwards."""
    found = data_database(archive.mongo, archive.settings)
    yield found
    for database in (found, system_database(archive.mongo, archive.settings)):
        for name in database.list_collection_names():
            database.drop_collection(name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(str(tmp_path / "backups"))


def make(archive: Archive, place: Place, **wanted: Any) -> backup.Made:
    return backup.make(archive.settings, place, Wanted(**wanted), ignore)


def bring_back(archive: Archive, place: Place, name: str | None = None, *, drop: bool = True) -> list[restore.Restored]:
    choose = {"data": data_database, "system": system_database}
    found = restore.look(place, name)

    def database(kept: str) -> Database[Document]:
        return choose[kept](archive.mongo, archive.settings)

    return list(restore.restore(place, found.sources, database, ignore, drop=drop))


def raw(database: Database[Document], name: str) -> list[bytes]:
    found = database.get_collection(name, codec_options=RAW).find_raw_batches({}, sort=[("_id", 1)])
    return [document for batch in found for document in chunks.split(batch)]


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.builds(Binary, st.binary(max_size=8), st.sampled_from([0, 1, 5, 128])),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.integers(-(10**20), 10**20).map(lambda n: Decimal128(str(n))),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.sampled_from([MinKey(), MaxKey(), Code("f"), Code("f", {"x": 1}), Regex("^a", "i")]),
)
KEYS = st.text("abcdefgh", min_size=1, max_size=3)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=6))
@configured(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_type_survives_bit_by_bit(
    archive: Archive, data: Database[Document], tmp_path_factory: pytest.TempPathFactory, documents: list[Document]
) -> None:
    place = Place.of(str(tmp_path_factory.mktemp("types")))
    data.drop_collection("types")
    encoded = [bson.encode({"_id": n, **document}) for n, document in enumerate(documents)]
    data["types"].insert_many([RawBSONDocument(each) for each in encoded])
    made = make(archive, place)
    data.drop_collection("types")
    bring_back(archive, place)
    assert raw(data, "types") == encoded
    assert made.manifest is not None
    (entry,) = made.manifest.collections
    there = restore.total(data.get_collection("types", codec_options=RAW))
    assert (there.rows, there.hex) == (entry.rows, entry.digest)


def test_options_and_indexes_come_back(archive: Archive, data: Database[Document], place: Place) -> None:
    data.create_collection("small", capped=True, size=4096)
    data.create_collection("empty")
    position = {"radec_geojson": {"type": "Point", "coordinates": [10.0, 20.0]}}
    data["Gaia"].insert_many([{"_id": n, "coordinates": position, "z": math.nan} for n in range(3)])
    data["Gaia"].create_index([("coordinates.radec_geojson", "2dsphere"), ("_id", -1)], name="radec")
    data["Gaia"].create_index("z", unique=True, partialFilterExpression={"z": {"$gt": 0}}, name="z")
    before = {name: list(data[name].list_indexes()) for name in ("small", "empty", "Gaia")}
    make(archive, place)
    for name in before:
        data.drop_collection(name)
    bring_back(archive, place, drop=False)
    assert {name: list(data[name].list_indexes()) for name in before} == before
    assert [index["key"] for index in map(dict, data["Gaia"].list_indexes())][1] == {
        "coordinates.radec_geojson": "2dsphere",
        "_id": -1,
    }
    assert data["small"].options()["capped"] is True


def test_only_what_has_changed_is_written_again(
    archive: Archive, data: Database[Document], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "cut", partial(chunks.cut, small=50_000, large=200_000))
    rows = [{"_id": n, "value": "x" * 1000} for n in range(1200)]
    data["big"].insert_many(rows)
    first = make(archive, place)
    assert (first.written.rows, first.kept.rows) == (1200, 0)
    assert make(archive, place).written.rows == 0
    data["big"].delete_one({"_id": 5})
    data["big"].insert_one({"_id": 5.5, "value": "new"})
    data["big"].update_one({"_id": 7}, {"$set": {"value": "changed"}})
    third = make(archive, place)
    assert 0 < third.written.rows < 800
    assert third.written.rows + third.kept.rows == 1200
    wanted = raw(data, "big")
    data["big"].delete_many({"_id": {"$lt": 600}})
    assert [each.new.rows for each in bring_back(archive, place)] == [1200]
    assert raw(data, "big") == wanted
    bring_back(archive, place, first.name)  # every backup is whole
    assert data["big"].find_one({"_id": 7}) == rows[7]
    backups, files = manifest.prune(place, 1)
    assert backups == 2
    assert files > 0
    bring_back(archive, place)
    assert raw(data, "big") == wanted


def alert(candid: int, object_id: str, jd: float) -> Document:
    return {"_id": candid, "candid": candid, "objectId": object_id, "candidate": {"jd": jd}}


def test_since_adds_the_alerts_of_a_night_and_their_objects(
    archive: Archive, data: Database[Document], place: Place
) -> None:
    data["ZTF_alerts"].insert_many([alert(1, "a", 2460000.5), alert(2, "b", 2460000.6)])
    data["ZTF_alerts_aux"].insert_many([{"_id": "a", "rows": [1]}, {"_id": "b", "rows": [1]}])
    data["catalog"].insert_one({"_id": 1})
    system = system_database(archive.mongo, archive.settings)
    system["users"].insert_one({"_id": "vera"})
    with pytest.raises(DumpError, match="make one without it first"):
        make(archive, place, since=datetime(2023, 2, 26))
    make(archive, place, system=True)
    data["ZTF_alerts"].insert_one(alert(3, "b", 2460010.5))
    data["ZTF_alerts_aux"].update_one({"_id": "b"}, {"$push": {"rows": 2}})
    system["users"].insert_one({"_id": "cecilia"})
    made = make(archive, place, since=datetime(2023, 3, 1), system=True)
    assert made.written.rows == 4  # one alert, its object, and the users as a whole
    wanted = {name: raw(data, name) for name in ("ZTF_alerts", "ZTF_alerts_aux", "catalog")}
    assert dict(verify(archive.settings, place, made.name, ignore)) == dict.fromkeys([*sorted(wanted), "system:users"])
    data["ZTF_alerts_aux"].delete_many({})
    bring_back(archive, place)
    assert {name: raw(data, name) for name in wanted} == wanted
    assert system["users"].count_documents({}) == 2


def test_what_is_there_stays_as_it_is(archive: Archive, data: Database[Document], place: Place) -> None:
    data["names"].insert_many([{"_id": 1, "v": "old"}, {"_id": 2, "v": "old"}])
    make(archive, place)
    data["names"].update_one({"_id": 1}, {"$set": {"v": "new"}})
    data["names"].delete_one({"_id": 2})
    (done,) = bring_back(archive, place, drop=False)
    assert (done.new.rows, done.present) == (1, 1)
    assert [each["v"] for each in data["names"].find(sort=[("_id", 1)])] == ["new", "old"]


def test_verification_finds_damage_and_leaves_nothing_behind(
    archive: Archive, data: Database[Document], place: Place
) -> None:
    data["names"].insert_many([{"_id": n, "old": datetime(2020, 1, 1, tzinfo=UTC)} for n in range(20)])
    data["names"].create_index("old", expireAfterSeconds=10**9)
    made = make(archive, place, collections=["names"])
    assert dict(verify(archive.settings, place, made.name, ignore)) == {"names": None}
    assert made.manifest is not None
    entry = made.manifest.collections[0]
    wrong = entry.model_copy(update={"digest": "0" * 16})
    name = manifest.write(place, made.manifest.model_copy(update={"collections": [wrong], "made_at": "2999"}))
    assert "not 20 with 0000000000000000" in str(dict(verify(archive.settings, place, name, ignore))["names"])
    file = Path(place.root) / manifest.chunk_path(entry, entry.chunks[0])
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(DumpError, match="is damaged"):
        list(verify(archive.settings, place, made.name, ignore))
    file.unlink()
    with pytest.raises(DumpError, match="is missing"):
        list(verify(archive.settings, place, made.name, ignore))
    path = Path(place.root) / made.name
    path.write_text(path.read_text().replace("names", "nemas"))
    with pytest.raises(DumpError, match="does not fit its checksum"):
        restore.look(place, made.name)
    prefix = f"{archive.settings.database.db}_verify"
    assert not [each for each in archive.mongo.list_database_names() if each.startswith(prefix)]


def test_an_unknown_collection_is_named(archive: Archive, data: Database[Document], place: Place) -> None:
    data["names"].insert_one({"_id": 1})
    with pytest.raises(DumpError, match="no collection nemas; there are names"):
        make(archive, place, collections=["nemas"])
    assert manifest.listing(place) == []


def test_a_backup_knows_the_version_of_what_it_holds(archive: Archive, data: Database[Document], place: Place) -> None:
    registry.set_version(system_database(archive.mongo, archive.settings), 1)
    data["names"].insert_one({"_id": 1})
    made = make(archive, place).manifest
    assert made is not None
    assert made.schema_version == 1


def test_places_may_be_urls_and_missing_packages_are_named(
    archive: Archive, data: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    data["names"].insert_one({"_id": 1})
    memory = Place.of("memory://kept")
    make(archive, memory)
    assert [each.new.rows for each in bring_back(archive, memory)] == [1]
    for url, package in (("gs://kowalski-catalogs", "gcsfs"), ("s3://dumps/here", "s3fs")):
        monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)
        monkeypatch.setitem(sys.modules, package, None)  # some have them installed
        with pytest.raises(DumpError, match=f"needs the package {package}: install it with"):
            Place.of(url)
    with pytest.raises(DumpError, match="gopher"):
        Place.of("gopher://here")
