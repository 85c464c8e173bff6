"""``ingest`` through the command, on simulated catalogs in every format, and what it says of what is wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bson
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from click.testing import Result
from distributed import LocalCluster
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyarrow import csv
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import client, indexes, loads
from kowalski.cli.main import build
from kowalski.ingesters import bson_columns, delimited, loading, sources, tables
from kowalski.ingesters.columns import Columns
from kowalski.science.coordinates import healpix_cells, sexagesimal
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]
N = 300


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture(scope="module")
def run(archive: Any) -> Run:
    from kowalski.cli import main

    environment = services.environment(archive.settings) | {"COLUMNS": "200"}

    def invoke(*arguments: str) -> Result:
        done = CliRunner().invoke(build(), ["ingest", *arguments], env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            assert isinstance(done.exception, main._foreseen()), done.exception
        return done

    return invoke


@pytest.fixture(scope="module")
def data(archive: Any) -> Database[Document]:
    return client.data_database(archive.mongo, archive.settings)


@pytest.fixture(scope="module")
def stars() -> pa.Table:
    """Sources everywhere, some of them without a magnitude."""
    random = np.random.default_rng(1)
    ra, dec = random.uniform(0.0, 360.0, N), np.degrees(np.arcsin(random.uniform(-1.0, 1.0, N)))
    columns = {
        "name": [f"star {i}" for i in range(N)],
        "RA": ra,
        "Dec": dec,
        "mag": pa.array(random.uniform(10.0, 20.0, N), mask=random.random(N) < 0.2),
        "n": np.arange(N),
    }
    return pa.table(columns)


def written(stars: pa.Table, folder: Path, kind: str) -> Path:
    """Write the catalog in one format."""
    path = folder / f"stars.{kind}"
    plain = Table({name: stars[name].to_numpy() for name in stars.column_names if name != "name"})
    plain["name"] = np.array(stars["name"].to_pylist(), "S")
    match kind:
        case "parquet":
            pq.write_table(stars, path, row_group_size=70)
        case "fits":
            plain.write(path)
        case "vot":
            plain.write(path, format="votable")
        case "h5":
            with h5py.File(path, "w") as file:
                file["deep/table"] = plain.as_array()
        case "tsv":
            csv.write_csv(stars, path, csv.WriteOptions(delimiter="\t"))
        case _:
            csv.write_csv(stars, folder / "stars.csv")
            content = (folder / "stars.csv").read_bytes()
            if kind == "csv.zst":
                with pa.output_stream(str(path), compression="zstd") as out:
                    out.write(content)
            else:
                path.write_bytes({"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}[kind](content))
    return path


def expected(stars: pa.Table) -> dict[str, Document]:
    documents = {}
    for row in stars.to_pylist():
        ra, dec = row["RA"], row["Dec"]
        row["coordinates"] = {
            "radec_str": sexagesimal(ra, dec),
            "radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]},
            **{f"hpx_{order}": int(healpix_cells([ra], [dec], order)[0]) for order in (16, 14, 8)},
        }
        documents[row["name"]] = {name: value for name, value in row.items() if value is not None}
    return documents


KINDS = ["csv", "csv.gz", "csv.bz2", "csv.zst", "tsv", "parquet", "fits", "vot", "h5"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_makes_the_same_documents(
    run: Run, data: Database[Document], stars: pa.Table, tmp_path: Path, kind: str
) -> None:
    name = f"of_{kind.replace('.', '_')}"
    options = ["--no-indexes"] if kind != "csv" else []
    done = run(name, str(written(stars, tmp_path, kind)), "--batch-size", "64", *options)
    assert done.exit_code == 0, done.output
    found = {document["name"]: document for document in data[name].find({}, {"_id": 0})}
    assert found == expected(stars)
    if kind == "csv":
        assert indexes.has_sphere(data, name)
        assert indexes.healpix_orders(data, name) == [8, 14, 16]


def test_columns_are_chosen_renamed_and_emptied(run: Run, data: Database[Document], tmp_path: Path) -> None:
    """Sexagesimal positions, null values, an id, a name that MongoDB does not take."""
    (tmp_path / "t.csv").write_text(
        'key,alpha,delta,flux.r,x\nA1,"10 30 00.0",-00:30:00,-999,1\nA2,23h59m59.9s,+89d00m00s,2.5,\n'
    )
    done = run(
        "chosen", str(tmp_path / "t.csv"), "--ra", "alpha", "--dec", "delta", "--id", "key", "--null", "-999",
        "--columns", "flux.r,x", "--rename", "x=count", "--order", "12", "--no-indexes",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    first, second = data["chosen"].find().sort("_id", 1)
    assert (first["_id"], second["_id"]) == ("A1", "A2")
    assert first.keys() == {"_id", "count", "coordinates"}
    assert second.keys() == {"_id", "flux_r", "coordinates"}
    assert first["coordinates"]["radec_geojson"]["coordinates"] == pytest.approx([157.5 - 180.0, -0.5])
    assert first["coordinates"]["radec_str"] == ["10:30:00.0000", "-0:30:00.000"]


def test_positions_come_from_another_catalog(run: Run, data: Database[Document], tmp_path: Path) -> None:
    (tmp_path / "where.csv").write_text("id,ra,dec\n1,10,20\n2,30,40\n")
    (tmp_path / "what.csv").write_text("id,z\n1,0.1\n2,0.2\n3,0.3\n")
    assert run("places", str(tmp_path / "where.csv"), "--id", "id").exit_code == 0
    done = run("redshifts", str(tmp_path / "what.csv"), "--id", "id", "--position-from-catalog", "places")
    assert "2 stored, 1 rejected" in done.output
    assert data["redshifts"].find_one({"_id": 2}, {"_id": 0, "coordinates.radec_geojson": 1}) == {
        "coordinates": {"radec_geojson": {"type": "Point", "coordinates": [-150.0, 40.0]}}
    }


def test_what_cannot_be_stored_is_written_down_with_its_reason(
    run: Run, archive: Any, data: Database[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 48)  # what a column holds is told by the first three rows
    rows = ["1,10,20,5", "2,,20,5", "3,10,95,5", "4,10,20,abc", "5,10", ",10,20,5", "1,10,21,5", "1,10,20,5"]
    (tmp_path / "bad.csv").write_text("id,ra,dec,mag\n" + "9,1,1,1.5\n" + "\n".join(rows) + "\n")
    done = run("bad", str(tmp_path / "bad.csv"), "--id", "id", "--no-indexes")
    assert done.exit_code == 0, done.output
    assert data["bad"].count_documents({}) == 2
    rejects = archive.settings.path.run / "ingest/bad-rejected.jsonl"
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    reasons = " | ".join(sorted(line["reason"] for line in lines))
    for reason in ("no position (ra)", "out of range", "'abc' is no number", "2 values instead of 4", "no id", "_id 1"):
        assert reason in reasons
    assert len(lines) == 6
    assert "2 stored, 1 were there already, 6 rejected" in done.output


def test_a_dry_run_leaves_nothing_and_verify_finds_what_differs(
    run: Run, archive: Any, data: Database[Document], stars: pa.Table, tmp_path: Path
) -> None:
    path = str(written(stars, tmp_path, "parquet"))
    done = run("trial", path, "--dry-run")
    assert done.exit_code == 0
    assert f"{N} would be stored" in done.output
    assert "star 0" in done.output
    assert "trial" not in data.list_collection_names()
    assert run("trial", path, "--no-indexes").exit_code == 0
    assert f"{N} are stored as they are in the files" in run("trial", path, "--verify").output
    data["trial"].update_one({"n": 3}, {"$set": {"mag": 0.0}})
    data["trial"].delete_one({"n": 4})
    done = run("trial", path, "--verify")
    assert done.exit_code == 1
    assert f"{N - 2} are stored as they are in the files, 2 rejected" in done.output


def test_an_interrupted_load_goes_on_where_it_was(
    archive: Any, run: Run, data: Database[Document], stars: pa.Table, tmp_path: Path
) -> None:
    """It breaks off after a batch was stored, before that was written down: the worst moment."""
    path = written(stars, tmp_path, "csv")
    found = sources.find([str(path)], None, None, tmp_path)
    job = loading.Job("broken", tmp_path / "rejected", orders=(16, 14, 8), batch_size=50)
    work = loading.plan(archive.settings, job, found.files)
    part = work.parts[0]

    class Broken(Exception):
        pass

    def break_off(now: loads.Progress) -> None:
        if now.rows >= 150:
            raise Broken

    with pytest.raises(Broken):
        loading.load_part(archive.settings, job, part, break_off)
    system = client.system_database(archive.mongo, archive.settings)
    key = part.key("broken")
    assert loads.read(system, "broken")[key].rows == 150
    loads.put(system, key, loads.Progress(rows=100, new=100))
    done = run("broken", str(path), "--resume", "--batch-size", "70", "--no-indexes")
    assert done.exit_code == 0, done.output
    assert f"{N - 50} stored, 50 were there already, 0 rejected" in done.output
    assert {each["name"] for each in data["broken"].find()} == set(stars["name"].to_pylist())
    assert data["broken"].count_documents({}) == N
    assert loads.read(system, "broken")[key].finished


def test_a_load_that_is_killed_goes_on_without_doubled_or_missing_rows(
    archive: Any, run: Run, data: Database[Document], tmp_path: Path
) -> None:
    """The rows have no ids but those that they are given."""
    rows, path = 20_000, tmp_path / "killed.csv"
    where = np.linspace(0.0, 359.0, rows)
    csv.write_csv(pa.table({"name": [f"star {i}" for i in range(rows)], "ra": where, "dec": where / 5.0}), path)
    options = ["killed", str(path), "--no-indexes"]
    command = [sys.executable, "-m", "kowalski.cli", "ingest", *options, "--batch-size", "50"]
    load = services.Process("ingest", command, services.environment(archive.settings), tmp_path / "log")
    load.start()
    try:
        deadline = time.monotonic() + 60.0
        while data["killed"].estimated_document_count() < 500 and time.monotonic() < deadline:
            load.check()
            time.sleep(0.02)
    finally:
        load.kill()
    left = data["killed"].count_documents({})
    assert 500 <= left < rows, load.log.read_text()
    done = run(*options, "--resume")
    assert done.exit_code == 0, done.output
    assert "0 rejected" in done.output
    assert data["killed"].count_documents({}) == rows
    assert len(data["killed"].distinct("name")) == rows


def test_dask_shares_the_parts_of_a_partitioned_catalog(
    archive: Any, data: Database[Document], stars: pa.Table, tmp_path: Path
) -> None:
    """HATS: the catalog tells the columns of positions; beside its partitions there are files that are no data."""
    root = tmp_path / "stars_hats"
    odd = stars.rename_columns(["name", "where_ra", "where_dec", "mag", "n"])
    for number in range(3):
        folder = root / "dataset" / "Norder=1" / "Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        piece = odd.slice(number * 100, 100).append_column("Npix", pa.array([number] * 100))
        pq.write_table(piece, folder / f"Npix={number}.parquet")
    (root / "hats.properties").write_text(
        "#HATS catalog\nobs_collection=stars\nhats_col_ra=where_ra\nhats_col_dec = where_dec\n"
    )
    pq.write_table(odd.slice(0, 1), root / "dataset" / "data_thumbnail.parquet")
    found = sources.find([str(root)], None, None, tmp_path)
    assert (found.ra, found.dec, len(found.files)) == ("where_ra", "where_dec", 3)
    job = loading.Job("hats", tmp_path / "rejected", Columns(ra=found.ra, dec=found.dec, dropped=found.dropped))
    work = loading.plan(archive.settings, job, found.files)
    assert work.rows == N
    seen: list[loads.Progress] = []
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        own = archive.settings.model_copy(deep=True)
        own.dask.scheduler_address = cluster.scheduler_address
        done = loading.run(own, job, work, None, seen.append)
    assert (done.rows, done.new, done.rejected, done.finished) == (N, N, 0, True)
    assert seen
    assert data["hats"].count_documents({}) == N
    assert "Npix" not in (data["hats"].find_one() or {})
    again = loading.plan(archive.settings, replace(job, resume=True), found.files)
    assert (again.parts, again.done.new) == ([], N)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server for the folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_files_are_fetched_from_urls(
    run: Run, data: Database[Document], stars: pa.Table, tmp_path: Path, site: str
) -> None:
    written(stars, tmp_path, "csv.gz")
    done = run("fetched", f"{site}/stars.csv.gz", "--no-indexes")
    assert done.exit_code == 0, done.output
    assert data["fetched"].count_documents({}) == N
    assert "can't be fetched" in str(run("fetched", f"{site}/absent.csv").exception)


def test_what_is_wrong_with_a_load_is_said_in_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "no.fits").write_bytes(b"x" * 5000)
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "no.h5").write_bytes(b"no")
    (tmp_path / "no.vot").write_bytes(b"no")
    (tmp_path / "no.fits.gz").write_bytes(b"no gzip")
    (tmp_path / "unknown.dat").write_bytes(b"")
    a = str(tmp_path / "a.csv")
    for arguments, words in [
        (("x", a), "no columns of positions are known by their names among a, b"),
        (("x", a, "--ra", "c", "--dec", "b"), "there is no column 'c'; there are a, b"),
        (("x", str(tmp_path / "absent.csv")), "there is no such file"),
        (("x", str(tmp_path / "unknown.dat")), "say --format csv|tsv"),
        (("x", a, "--format", "xls"), "there is no format 'xls'"),
        (("x", a, "--unit", "grad"), "there is no unit 'grad'"),
        (("x", a, "--rename", "a"), "--rename is OLD=NEW"),
        (("ZTF_alerts", a, "--no-positions"), "can't be the name of a catalog"),
        (("ZTF_public", a), "--tag"),
        *[(("x", str(tmp_path / f"no.{kind}")), f"no.{kind}") for kind in ("fits", "parquet", "h5", "vot", "fits.gz")],
    ]:  # fmt: skip
        done = run(*arguments)
        assert done.exit_code == 1, arguments
        assert words in str(done.exception), (arguments, done.exception)
    assert "PS1_STRM" in run("--list").output


VALUES = {
    "whole": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "small": (st.integers(-(2**15), 2**15 - 1), pa.int16()),
    "number": (st.floats(allow_nan=False), pa.float64()),
    "text": (st.text(max_size=8), pa.string()),
    "truth": (st.booleans(), pa.bool_()),
    "many": (st.lists(st.integers(0, 9), max_size=3), pa.list_(pa.int64())),
}


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*(st.none() | values for values, _ in VALUES.values())), min_size=1, max_size=5))
def test_columns_become_what_the_library_makes_of_rows(rows: list[tuple[Any, ...]]) -> None:
    elements = [
        bson_columns.column(name, pa.array([row[i] for row in rows], kind))
        for i, (name, (_, kind)) in enumerate(VALUES.items())
    ]
    for row, document in zip(rows, bson_columns.documents(elements, len(rows)).to_pylist(), strict=True):
        assert bson.decode(document) == {name: v for name, v in zip(VALUES, row, strict=True) if v is not None}


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 360.0, exclude_max=True), st.floats(-90.0, 90.0)), min_size=1, max_size=9))
def test_positions_are_written_as_everywhere_else(positions: list[tuple[float, float]]) -> None:
    ra, dec = np.array(positions, float).T
    documents = bson_columns.documents([bson_columns.coordinates(ra, dec, [])], len(positions)).to_pylist()
    found = [bson.decode(document)["coordinates"] for document in documents]
    assert [each["radec_str"] for each in found] == [sexagesimal(a, d) for a, d in positions]
    assert [each["radec_geojson"]["coordinates"] for each in found] == [[a - 180.0, d] for a, d in positions]


def test_parts_of_a_file_hold_each_row_once() -> None:
    spans = tables.Layout(("a",), 2 * tables.PART + 1).parts()
    assert spans == [(0, tables.PART), (tables.PART, 2 * tables.PART), (2 * tables.PART, 2 * tables.PART + 1)]
