"""``backup`` and ``seed`` at the command line, with a real MongoDB."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
import typer
from click.testing import Result
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import names
from kowalski.archive.client import data_database, system_database
from kowalski.cli import backup, seed
from kowalski.config import Settings
from kowalski.dumps.backup import RAW
from kowalski.dumps.errors import DumpError
from kowalski.migrations import registry
from kowalski.testing import dumped, services
from kowalski.testing.mongodump import archive

Document = dict[str, Any]
Run = Callable[..., Result]


@pytest.fixture
def run(mongo: MongoClient[Document], settings: Settings) -> Run:
    app = typer.Typer()
    backup.register(app)
    seed.register(app)
    environment = services.environment(settings) | {"COLUMNS": "200"}

    def invoke(*arguments: object) -> Result:
        done = CliRunner().invoke(app, [*map(str, arguments)], env=environment)
        assert "Traceback" not in done.output
        return done

    return invoke


def dump(folder: Path) -> None:
    """An archive as the system before had one: its users lie beside the data."""
    documents = {
        ("kowalski", "Gaia"): [bson.encode({"_id": n, "v": n / 2}) for n in range(2500)],
        ("kowalski", "users"): [bson.encode({"_id": "vera", "password": "hash"})],
        ("admin", "system.users"): [bson.encode({"_id": "root"})],
    }
    index = {"v": 2, "key": {"v": -1}, "name": "v"}
    (folder / "kowalski.archive.gz").write_bytes(gzip.compress(archive(documents, {("kowalski", "Gaia"): [index]})))
    (folder / "notes.txt").write_text("not a dump")


def test_an_archive_of_mongodump_is_restored(
    run: Run, mongo: MongoClient[Document], settings: Settings, tmp_path: Path
) -> None:
    dump(tmp_path)
    data, system = data_database(mongo, settings), system_database(mongo, settings)
    assert run("seed", "--source", tmp_path).exit_code == 2  # nobody is there to choose
    done = run("seed", "--source", tmp_path, "--yes")
    assert done.exit_code == 0, done.output
    assert "Gaia: 2,500 documents restored" in done.stdout
    assert "notes.txt" in done.stderr
    assert "1 collections of users, filters and the like are taken with --system only" in done.stderr
    assert data["Gaia"].count_documents({}) == 2500
    assert data["Gaia"].index_information()["v"]["key"] == [("v", -1)]
    assert data.list_collection_names() == ["Gaia"]
    assert system[names.USERS].count_documents({}) == 0
    assert registry.version(system) == registry.CURRENT  # catalogs have no version

    data["Gaia"].delete_many({"_id": {"$lt": 10}})
    done = run("seed", "--source", tmp_path, "--yes", "--system")
    assert "Gaia: 10 documents restored, 2,490 were there already" in done.stdout
    assert "run ./kowalski.py migrate" in done.stdout
    assert system[names.USERS].find_one()["password"] == "hash"  # type: ignore[index]
    assert registry.version(system) == 0


def test_what_mongodump_itself_has_written_is_restored(
    run: Run, mongo: MongoClient[Document], settings: Settings, tmp_path: Path
) -> None:
    shutil.copy(dumped.FOLDER / "plain.archive", tmp_path)
    for _ in range(2):
        assert run("seed", "--source", tmp_path, "--yes", "--drop").exit_code == 0
    data = data_database(mongo, settings)
    for name in ("types", "sources", "empty"):
        raw = data.get_collection(name, codec_options=RAW).find().sort("_id")
        assert [document.raw for document in raw] == [bson.encode(each) for each in dumped.COLLECTIONS[name]()]
    assert data["bright"].count_documents({}) == 126  # of the view
    assert {"_id_", "position", "fid_1_magpsf_-1"} == data["sources"].index_information().keys()
    assert data["empty"].options()["capped"] is True


def test_a_backup_goes_round(run: Run, mongo: MongoClient[Document], settings: Settings, tmp_path: Path) -> None:
    data, system = data_database(mongo, settings), system_database(mongo, settings)
    data["Gaia"].insert_many([{"_id": n} for n in range(10)])
    data["CLU"].insert_one({"_id": 1})
    system[names.USERS].insert_one({"_id": "vera"})
    place = tmp_path / "backups"
    done = run("backup", "--to", place, "--system", "--verify")
    assert done.exit_code == 0, done.output
    assert "verified: 3 collections come back" in done.stdout
    data["Gaia"].insert_one({"_id": 99})
    done = run("seed", "--source", place, "--drop", "--yes")
    assert done.exit_code == 0, done.output
    assert data["Gaia"].count_documents({}) == 10
    assert run("backup", "--to", place, "--collections", "Gaia,CLU", "--keep", 1).exit_code == 0
    assert len(list(place.glob("backup-*.json"))) == 1
    done = run("backup", "--to", place, "--collections", "nemas")
    assert isinstance(done.exception, DumpError)
    assert "there are CLU, Gaia" in str(done.exception)
    assert isinstance(run("seed", "--source", tmp_path / "absent").exception, DumpError)
    (tmp_path / "empty").mkdir()
    assert "nothing to restore" in run("seed", "--source", tmp_path / "empty").output


def test_a_damaged_backup_is_told(run: Run, mongo: MongoClient[Document], settings: Settings, tmp_path: Path) -> None:
    data_database(mongo, settings)["Gaia"].insert_many([{"_id": n} for n in range(10)])
    assert run("backup", "--to", tmp_path).exit_code == 0
    (chunk,) = tmp_path.rglob("*.parquet")
    chunk.write_bytes(chunk.read_bytes()[:-9])
    done = run("backup", "--to", tmp_path, "--verify")
    assert isinstance(done.exception, DumpError)
    assert "is damaged" in str(done.exception)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("all", [1, 2, 3, 4]), ("2", [2]), ("1,3-4", [1, 3, 4]), ("4 1", [1, 4]), ("", []), ("5", []), ("a", [])],
    ids=["all", "one", "ranges", "blanks", "nothing", "too_large", "letters"],
)
def test_collections_are_chosen_by_number(text: str, numbers: list[int]) -> None:
    assert seed.picked(text, 4) == numbers
