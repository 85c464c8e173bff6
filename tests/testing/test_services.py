from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from pymongo import MongoClient

from kowalski.archive.client import data_database, system_database
from kowalski.config import Settings, load
from kowalski.config.settings import Surveys
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services


def test_written_settings_are_read_back_equal(settings: Settings) -> None:
    settings.database.xmatch = {}
    settings.database.indexes = {}
    settings.broker.batch_size = 7
    assert load(services.write_config(settings), environ={}).settings == settings


def test_written_settings_are_private(settings: Settings) -> None:
    assert services.write_config(settings).stat().st_mode & 0o777 == 0o600


def test_new_settings_lay_sections_over_small_ones(tmp_path: Path) -> None:
    made = services.new_settings(tmp_path / "run", broker={"batch_size": 3}, database={"db": "other"})
    assert (made.broker.batch_size, made.database.db, made.database.cache_gb) == (3, "other", 0.25)
    assert len(set(made.local_ports.values())) == len(made.local_ports)


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = services.free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ports[0]))


def test_two_tests_have_nothing_in_common(settings: Settings, instance: Settings) -> None:
    assert settings.database.db != instance.database.db
    assert settings.kafka.group != instance.kafka.group
    assert settings.path.run != instance.path.run


def test_stop_leaves_no_children_behind(tmp_path: Path) -> None:
    family = "import subprocess; child = subprocess.Popen(['sleep', '600']); print('up', flush=True); child.wait()"
    process = services.Process("family", [sys.executable, "-c", family], {}, tmp_path / "log")
    process.start()
    while "up" not in process.log.read_text():
        assert process.is_running
    (child,) = psutil.Process(process.pid).children()
    process.stop()
    assert not process.is_running
    child.wait(10)


def test_check_shows_the_end_of_the_log(tmp_path: Path) -> None:
    process = services.Process("teller", [sys.executable, "-c", "print('no such luck')"], {}, tmp_path / "log")
    process.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ServiceError, match=r"teller has ended.*no such luck"):
        process.check()


def test_writer_may_write_both_databases(mongo: MongoClient[dict[str, Any]], settings: Settings) -> None:
    for database in (data_database(mongo, settings), system_database(mongo, settings)):
        assert database["things"].insert_one({"_id": 1}).acknowledged
        database["things"].create_index("name")
        assert database.command("collStats", "things")["count"] == 1


def test_dask_workers_join(settings: Settings) -> None:
    settings.surveys = Surveys()  # then workers need neither MongoDB nor models
    with (
        services.dask_cluster(settings, workers=2) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        assert len(client.scheduler_info()["workers"]) == 2
        assert client.submit(os.getenv, "KOWALSKI_CONFIG").result() == str(settings.path.run / "config.yaml")
    assert not any(process.is_running for process in (cluster.scheduler, *cluster.workers))
