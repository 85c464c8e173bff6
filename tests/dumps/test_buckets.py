"""Backups and mongodump's archives in a bucket, with a server on this machine that speaks S3.

The client (``s3fs``) and the server (``moto[s3]``, ``flask``, ``flask-cors``) are no part of the locked packages; where
they are not installed nothing is tested here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pymongo.database import Database
from typer import Typer
from typer.testing import CliRunner

from kowalski.archive.client import data_database
from kowalski.cli import backup, seed
from kowalski.cli.main import main
from kowalski.dumps.places import Place
from kowalski.testing import dumped, services

REASON = "the packages s3fs, moto[s3], flask and flask-cors are not installed: no bucket is tried"
s3fs = pytest.importorskip("s3fs", reason=REASON)
if importlib.util.find_spec("moto") is None:  # it is not imported: that changes what clients in this process do
    pytest.skip(REASON, allow_module_level=True)

Document = dict[str, Any]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (port,) = services.free_ports(1)
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = services.Process("moto", argv, {}, tmp_path_factory.mktemp("moto") / "log")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(5)


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket ``kept`` as s3fs sees it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:  # that it has started
        client.post(f"{address}/moto-api/reset").raise_for_status()
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir("kept")
    yield files
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def run(settings: Any, mongo: Any) -> Run:
    app = Typer()
    backup.register(app)
    seed.register(app)
    environment = services.environment(settings) | {"COLUMNS": "200"}

    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, env=environment)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return invoke


@pytest.fixture
def data(settings: Any, mongo: Any) -> Database[Document]:
    return data_database(mongo, settings)


def test_a_backup_goes_to_a_bucket_and_back(run: Run, bucket: Any, data: Database[Document]) -> None:
    data["Gaia"].insert_many([{"_id": n, "x": n / 3} for n in range(3000)])
    assert "verified: 1 collections come back" in run("backup", "--to", "s3://kept/backups", "--verify")
    data["CLU"].insert_one({"_id": 1})
    run("backup", "--to", "s3://kept/backups", "--keep", "1")
    assert len(bucket.glob("kept/backups/backup-*.json")) == 1
    data["Gaia"].drop()
    told = run("seed", "--source", "s3://kept/backups", "--yes")
    assert "Gaia: 3,000 documents restored" in told
    assert data["Gaia"].count_documents({}) == 3000


def test_archives_of_mongodump_are_read_from_a_bucket(run: Run, bucket: Any, data: Database[Document]) -> None:
    bucket.put(str(dumped.FOLDER / "gzip.archive"), "kept/archives/kowalski.archive.gz")
    assert "left: 48 documents restored" in run("seed", "--source", "s3://kept/archives", "--yes")
    assert data["right"].count_documents({}) == 48


def interrupted(place: Place) -> None:
    with place.writing("part") as file:
        file.write(bytes(12 * 1024 * 1024))  # more than goes in one part
        raise KeyboardInterrupt


def test_what_is_interrupted_leaves_nothing(bucket: Any) -> None:
    place = Place.of("s3://kept/backups")
    with pytest.raises(KeyboardInterrupt):
        interrupted(place)
    assert place.names() == []
    with place.writing("whole") as file:
        file.write(bytes(12 * 1024 * 1024))
    assert (place.names(), place.size("whole")) == (["whole"], 12 * 1024 * 1024)


def test_a_bucket_that_does_not_answer_is_told_in_a_sentence(
    settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(settings.path.run))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    assert main(["--config", str(services.write_config(settings)), "seed", "--source", "s3://kept/here", "--yes"]) == 1
    assert "Unable to locate credentials" in (said := capsys.readouterr().err)
    assert "fault of Kowalski" not in said
