"""Filters in the database: versions that are never lost, and what the broker loads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import filters, names
from kowalski.archive.client import Role, async_system_database, connect_async, system_database
from kowalski.archive.filters import FilterConflictError, PipelineTextError, decode_pipeline
from kowalski.config import Settings

CATALOG = "ZTF_alerts"
FACTS = {"catalog": CATALOG, "permissions": [1, 2]}
TEXT = '[{"$match": {"candidate.drb": {"$gt": 0.9}}}]'

Store = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def store(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Any:
    async with connect_async(settings, Role.WRITER) as client:
        system = async_system_database(client, settings)
        await filters.ensure_indexes(system)
        yield system


@pytest.fixture
def system(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Any:
    return system_database(mongo, settings)


async def save(store: Store, filter_id: int = 1, group_id: int = 7, text: str = TEXT, **flags: Any) -> str:
    version = filters.new_version(text)
    await filters.save_version(store, (group_id, filter_id), version, facts=FACTS, flags=flags)
    return str(version["fid"])


async def test_versions_saved_at_once_are_all_kept(store: Store) -> None:
    await asyncio.gather(*(filters.ensure_indexes(store) for _ in range(4)))
    fids = await asyncio.gather(*(save(store) for _ in range(12)))
    document = await filters.get(store, 1)
    assert document is not None
    assert sorted(version["fid"] for version in document["fv"]) == sorted(fids)
    assert document["active_fid"] in fids
    assert await store[names.FILTERS].count_documents({}) == 1


async def test_a_number_belongs_to_one_group_and_one_catalog(store: Store) -> None:
    await save(store)
    with pytest.raises(FilterConflictError, match="Filter id 1 exists already"):
        await save(store, group_id=8)
    other = {"catalog": "PGIR_alerts", "permissions": []}
    with pytest.raises(FilterConflictError):
        await filters.save_version(store, (7, 1), filters.new_version(TEXT), facts=other, flags={})


async def test_the_active_version_is_loaded_with_its_pipeline_decoded(store: Store, system: Any) -> None:
    first = await save(store, autosave={"active": True})
    await save(store, text="[]")
    await save(store, filter_id=2, active=False)
    await filters.update(store, 1, {"active_fid": first, "update_annotations": True})
    (loaded,) = filters.load_active(system, CATALOG)
    assert (loaded.group_id, loaded.filter_id, loaded.fid, loaded.permissions) == (7, 1, first, (1, 2))
    assert loaded.pipeline == [{"$match": {"candidate.drb": {"$gt": 0.9}}}]
    assert loaded.saving is not None
    assert (loaded.saving.block.active, loaded.update_annotations) == (True, True)
    assert filters.load_active(system, "PGIR_alerts") == []


@pytest.mark.parametrize(
    "change",
    [
        {"fv.0.pipeline": "[{"},
        {"fv.0.pipeline": '[{"$match": {"a": {"$numberDecimal": "x"}}}]'},
        {"fv.0.pipeline": None},
        {"active_fid": "gone"},
        {"fv": None},
        {"permissions": 3},
    ],
)
async def test_a_broken_filter_is_suspended_and_stops_nobody_else(
    store: Store, system: Any, change: dict[str, Any]
) -> None:
    for filter_id in (1, 2, 3):
        await save(store, filter_id)
    await store[names.FILTERS].update_one({"filter_id": 2}, {"$set": change})
    assert [loaded.filter_id for loaded in filters.load_active(system, CATALOG)] == [1, 3]
    document = await filters.get(store, 2)
    assert document is not None
    assert "can't be read" in document["suspended"]["reason"]
    assert document["active"] is True
    assert [loaded.filter_id for loaded in filters.load_active(system, CATALOG)] == [1, 3]


async def test_a_suspension_ends_with_activation_or_a_new_version(store: Store, system: Any) -> None:
    fid = await save(store)
    for revive in (
        lambda: filters.update(store, 1, {"active": True}),
        lambda: filters.update(store, 1, {"active_fid": fid}),
        lambda: save(store),
    ):
        document = await filters.get(store, 1)
        assert document is not None
        assert filters.suspend(system, 1, document["active_fid"], "too slow")
        assert filters.load_active(system, CATALOG) == []
        await filters.update(store, 1, {"update_annotations": True})
        assert filters.load_active(system, CATALOG) == []
        await revive()
        assert [loaded.filter_id for loaded in filters.load_active(system, CATALOG)] == [1]


async def test_a_version_that_is_no_longer_active_cannot_be_suspended(store: Store, system: Any) -> None:
    old = await save(store)
    await save(store)
    assert not filters.suspend(system, 1, old, "too slow")
    assert len(filters.load_active(system, CATALOG)) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{}]", '[{"$match": {}, "$limit": 1}]', "[" * 5000, "null"])
def test_what_is_no_pipeline(text: str) -> None:
    with pytest.raises(PipelineTextError):
        decode_pipeline(text)
