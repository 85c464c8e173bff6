"""The reader of mongodump's archives, on what mongodump has written and on archives laid out as their specification
says."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import shutil
from collections.abc import Callable
from typing import Any

import bson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from kowalski.archive.client import Role, connect, uri
from kowalski.config import Settings
from kowalski.dumps.errors import DumpError
from kowalski.dumps.mongodump import Archive
from kowalski.testing import dumped
from kowalski.testing.mongodump import archive, crc64

GAIA, USERS = ("kowalski", "Gaia"), ("kowalski", "users")
TWO = {GAIA: [bson.encode({"_id": n, "x": n / 3}) for n in range(9)], USERS: [bson.encode({"_id": "vera"})]}


def halves(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Compress as parallel compressors do: several streams, one after the other."""
    return lambda data: compress(data[:70]) + compress(data[70:])


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip_parts": halves(gzip.compress),
    "bzip2": bz2.compress,
    "bzip2_parts": halves(bz2.compress),
    "zstandard": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
    "zstandard_parts": halves(lambda data: bytes(pa.compress(data, "zstd", asbytes=True))),
}


def read(content: bytes) -> dict[tuple[str, str], list[bytes]]:
    found: dict[tuple[str, str], list[bytes]] = {}
    for where, document in Archive(io.BytesIO(content), "test").documents():
        found.setdefault(where, []).append(document)
    return found


def test_the_checksum_of_the_tests_is_the_standard_one() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA  # the check value of CRC-64/XZ in the catalogue of CRCs


@pytest.mark.parametrize("form", FORMS)
def test_archives_are_read_whatever_they_are_compressed_with(form: str) -> None:
    opened = Archive(io.BytesIO(FORMS[form](archive(TWO))), "test")
    assert [(each.database, each.name, each.kind) for each in opened.collections] == [
        (*GAIA, "collection"),
        (*USERS, "collection"),
    ]
    assert opened.header["tool_version"] == "100.9.4"
    assert read(FORMS[form](archive(TWO))) == TWO


@given(
    st.dictionaries(
        st.tuples(st.just("db"), st.sampled_from("abcd")),
        st.lists(st.binary(max_size=30).map(lambda x: bson.encode({"_id": x, "": {}})), max_size=12),
        max_size=4,
    ),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_interleaving_is_sorted_out(collections: dict[tuple[str, str], list[bytes]], seed: int) -> None:
    expected = {where: documents for where, documents in collections.items() if documents}
    assert read(archive(collections, seed=seed)) == expected


def test_definitions_of_indexes_come_with_their_order() -> None:
    position = {"v": 2, "key": {"b": 1, "a": "2dsphere"}, "name": "both", "sparse": True}
    opened = Archive(io.BytesIO(archive(TWO, {GAIA: [position]})), "test")
    assert opened.collections[0].indexes[1] == position
    assert list(opened.collections[0].indexes[1]["key"]) == ["b", "a"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_told_and_never_passes_for_documents(data: st.DataObject) -> None:
    whole = archive(TWO)
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        found = read(damaged)
    except DumpError:
        return
    assert found == TWO  # a letter of a name or version in the beginning: nothing of a document


@pytest.mark.parametrize("form", ["gzip", "bzip2", "zstandard"])
def test_a_compressed_archive_that_is_cut_off_is_damaged(form: str) -> None:
    with pytest.raises(DumpError, match="is damaged"):
        read(FORMS[form](archive(TWO))[:-20])


def test_other_files_are_no_archives() -> None:
    for content in (b"", b"x", b"name,ra,dec\n", gzip.compress(b"hello")):
        with pytest.raises(DumpError):
            Archive(io.BytesIO(content), "test")


def check(content: bytes, form: str) -> None:
    """See that an archive of `kowalski.testing.dumped` gives byte by byte what was dumped."""
    opened = Archive(io.BytesIO(content), form)
    there = set(dumped.COLLECTIONS) - ({"left", "right"} if form == "plain" else set())
    described = {each.name: each for each in opened.collections if each.database == dumped.DATABASE}
    assert described.keys() == there | {"bright"}
    assert {each.kind for name, each in described.items() if name != "bright"} == {"collection"}
    assert (described["bright"].kind, described["bright"].options["viewOn"]) == ("view", "sources")
    assert described["empty"].options["capped"] is True
    assert described["sources"].options["collation"]["strength"] == 2
    _, position, partial = described["sources"].indexes
    assert list(position["key"].items()) == [("coordinates.radec_geojson", "2dsphere"), ("_id", -1)]
    assert partial["partialFilterExpression"] == {"magpsf": {"$gt": 3}}
    found: dict[str, list[bytes]] = {name: [] for name in there}
    blocks: list[str] = []
    for (database, name), document in opened.documents():
        if database == dumped.DATABASE:
            found[name].append(document)
            blocks.append(name)
    assert found == {name: [bson.encode(each) for each in dumped.COLLECTIONS[name]()] for name in there}
    turns = [name for name, _ in itertools.groupby(blocks)]
    assert form == "plain" or len(turns) > len(set(turns))  # these show that interleaved blocks are sorted out


@pytest.mark.parametrize("form", dumped.FORMS)
def test_what_mongodump_has_written_is_read(form: str) -> None:
    """The archives are those of mongodump 100.3.1 and MongoDB 6.0.5."""
    content = (dumped.FOLDER / f"{form}.archive").read_bytes()
    opened = Archive(io.BytesIO(content), form)
    assert (opened.header["tool_version"], opened.header["server_version"]) == ("100.3.1", "6.0.5")
    assert (("", "oplog") in {(each.database, each.name) for each in opened.collections}) == (form == "oplog")
    check(content, form)


@pytest.mark.skipif(shutil.which("mongodump") is None, reason="there is no mongodump on PATH to write new archives")
@pytest.mark.parametrize("form", ["plain", "gzip"])
def test_what_the_mongodump_of_this_machine_writes_is_read(
    settings: Settings, mongo: MongoClient[dict[str, Any]], form: str
) -> None:
    with connect(settings, Role.ADMIN) as admin:
        check(dumped.dump(["mongodump"], admin, uri(settings, Role.ADMIN), form), form)
