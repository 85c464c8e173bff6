"""Collections and indexes of a survey on a real MongoDB."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from kowalski import surveys
from kowalski.archive import client, indexes
from kowalski.config import Settings
from kowalski.config.settings import Index

Document = dict[str, Any]
SURVEY = surveys.get("ZTF")


@pytest.fixture
def data(mongo: MongoClient[Document], settings: Settings) -> Database[Document]:
    return client.data_database(mongo, settings)


def test_every_configured_index_is_there_and_serves(data: Database[Document], settings: Settings) -> None:
    indexes.ensure(data, settings, SURVEY)
    configured = settings.database.indexes[SURVEY.alerts]
    found = data[SURVEY.alerts].index_information()
    assert found.keys() == {"_id_", *(index.name for index in configured)}
    for index in configured:
        assert found[index.name]["key"] == [tuple(field) for field in index.fields]
        assert found[index.name].get("unique", False) == index.unique
    assert data[SURVEY.objects].index_information().keys() == {"_id_", "cell"}
    place = {"radec_geojson": {"type": "Point", "coordinates": [-30.0, 20.0]}}
    data[SURVEY.alerts].insert_one({"_id": 1, "objectId": "ZTF23aaaaaaa", "candid": 1, "coordinates": place})


def test_it_may_be_repeated_and_raced(data: Database[Document], settings: Settings) -> None:
    errors: list[BaseException] = []

    def ensure() -> None:
        try:
            indexes.ensure(data, settings, SURVEY)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    indexes.ensure(data, settings, SURVEY)
    assert errors == []
    assert set(data.list_collection_names()) == {SURVEY.alerts, SURVEY.objects}
    assert len(data[SURVEY.alerts].index_information()) == 1 + len(settings.database.indexes[SURVEY.alerts])


def test_indexes_may_be_switched_off_or_declared_for_objects(data: Database[Document], settings: Settings) -> None:
    settings.database.build_indexes = False
    settings.database.indexes = {SURVEY.objects: [Index(name="last", fields=[("prv_candidates.jd", -1)])]}
    indexes.ensure(data, settings, SURVEY)
    assert set(data.list_collection_names()) == {SURVEY.alerts, SURVEY.objects}
    assert data[SURVEY.objects].index_information().keys() == {"_id_"}
    settings.database.build_indexes = True
    indexes.ensure(data, settings, SURVEY)
    assert data[SURVEY.objects].index_information()["last"]["key"] == [("prv_candidates.jd", -1)]
