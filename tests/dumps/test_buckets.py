"""Backups and mongodump's archives in buckets, with servers on this machine that speak S3 and Google Cloud Storage.

The clients (``s3fs``, ``gcsfs``) and the servers (``moto[s3]``, ``flask``, ``flask-cors``; ``gcp-storage-emulator``)
are no part of the locked packages; where they are not installed nothing is tested here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
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

NEEDED = {"s3": ("s3fs", "moto", "flask_cors"), "gs": ("gcsfs", "gcp_storage_emulator")}


def _missing(scheme: str) -> list[str]:
    """Packages that are not installed; they are not imported: moto changes what clients in this process do."""
    return [package for package in NEEDED[scheme] if importlib.util.find_spec(package) is None]


def _needs(scheme: str) -> pytest.MarkDecorator:
    lacking = _missing(scheme)
    return pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} not installed: no {scheme}:// is tried")


Document = dict[str, Any]
Run = Callable[..., str]


@pytest.fixture(scope="module", params=[pytest.param(scheme, marks=_needs(scheme)) for scheme in NEEDED])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def address(scheme: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (port,) = services.free_ports(1)
    command = {
        "s3": ["moto.server", "-H", "127.0.0.1", "-p", str(port)],
        "gs": ["gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"],
    }[scheme]
    server = services.Process("bucket", [sys.executable, "-m", *command], {}, tmp_path_factory.mktemp("bucket") / "log")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(5)


@pytest.fixture
def url(scheme: str, address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    reset = {"s3": ("POST", "/moto-api/reset"), "gs": ("GET", "/wipe")}[scheme]
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # the server speaks HTTP only, no gRPC
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon", "project": "any"})
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:  # that it has started
        client.request(reset[0], address + reset[1]).raise_for_status()
    _forget(scheme)
    fsspec.filesystem(scheme).mkdir("kept")
    yield f"{scheme}://kept"
    _forget(scheme)


def _forget(scheme: str) -> None:
    fsspec.get_filesystem_class(scheme).clear_instance_cache()


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


def test_a_backup_goes_to_a_bucket_and_back(run: Run, url: str, data: Database[Document]) -> None:
    data["Gaia"].insert_many([{"_id": n, "x": n / 3} for n in range(3000)])
    assert "verified: 1 collections come back" in run("backup", "--to", f"{url}/backups", "--verify")
    data["CLU"].insert_one({"_id": 1})
    run("backup", "--to", f"{url}/backups", "--keep", "1")
    assert len([name for name in Place.of(f"{url}/backups").names() if name.startswith("backup-")]) == 1
    data["Gaia"].drop()
    told = run("seed", "--source", f"{url}/backups", "--yes")
    assert "Gaia: 3,000 documents restored" in told
    assert data["Gaia"].count_documents({}) == 3000


def test_archives_of_mongodump_are_read_from_a_bucket(run: Run, url: str, data: Database[Document]) -> None:
    content = (dumped.FOLDER / "gzip.archive").read_bytes()
    with Place.of(f"{url}/archives").writing("kowalski.archive.gz") as file:
        file.write(content)
    assert "left: 48 documents restored" in run("seed", "--source", f"{url}/archives", "--yes")
    assert data["right"].count_documents({}) == 48


def interrupted(place: Place) -> None:
    with place.writing("part") as file:
        file.write(bytes(12 * 1024 * 1024))  # more than goes in one part
        raise KeyboardInterrupt


def test_what_is_interrupted_leaves_nothing(scheme: str, url: str) -> None:
    if scheme == "gs":
        pytest.skip("the server that imitates Google's can't give up an upload")
    place = Place.of(f"{url}/backups")
    with pytest.raises(KeyboardInterrupt):
        interrupted(place)
    assert place.names() == []
    with place.writing("whole") as file:
        file.write(bytes(12 * 1024 * 1024))
    assert (place.names(), place.size("whole")) == (["whole"], 12 * 1024 * 1024)


@_needs("s3")
def test_a_bucket_that_does_not_answer_is_told_in_a_sentence(
    settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(settings.path.run))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    _forget("s3")
    assert main(["--config", str(services.write_config(settings)), "seed", "--source", "s3://kept/here", "--yes"]) == 1
    assert "Unable to locate credentials" in (said := capsys.readouterr().err)
    assert "fault of Kowalski" not in said
