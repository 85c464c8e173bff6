"""``crossmatch`` on a real MongoDB, by cells and by geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import client
from kowalski.cli.main import build
from kowalski.config import Settings
from kowalski.ingesters import cells
from kowalski.testing import services


def test_pairs_are_written(mongo: MongoClient[dict[str, Any]], settings: Settings, tmp_path: Path) -> None:
    """Every other source has a neighbour 1.8 arcsec to the north; by cells and by geometry they are the same."""
    data = client.data_database(mongo, settings)

    def source(i: int, north: float) -> dict[str, Any]:
        place = {"type": "Point", "coordinates": [i * 0.01 - 180.0, 10.0 + north / 3600.0]}
        return {"_id": i, "coordinates": {"radec_geojson": place}}

    data["A"].insert_many([source(i, 0.0) for i in range(40)])
    data["B"].insert_many([source(i, 1.8) for i in range(0, 40, 2)])
    data["B"].create_index([("coordinates.radec_geojson", "2dsphere")])

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(build(), ["crossmatch", *arguments], env=services.environment(settings))

    said = ("--catalog", "A", "--with", "B", "--out")
    assert run(*said, str(tmp_path / "a.parquet"), "--radius", "2").exit_code == 0
    cells.add_cells(data["B"], (16,))
    done = run(*said, str(tmp_path / "a.csv"), "--radius", "2")
    assert "20 pairs" in done.output
    by_geometry, by_cells = pq.read_table(tmp_path / "a.parquet"), csv.read_csv(tmp_path / "a.csv")
    for found in (by_geometry, by_cells):
        assert [int(one) for one in found["id"].to_pylist()] == list(range(0, 40, 2))
        assert found["separation"].to_pylist() == pytest.approx([1.8] * 20, abs=1e-6)
    assert "0 pairs" in run(*said, str(tmp_path / "none.csv"), "--radius", "1").output
    done = run("--catalog", "A", "--with", "absent", "--radius", "1", "--out", str(tmp_path / "x.csv"))
    assert done.exit_code == 1
    assert "absent: no such collection" in done.output
    assert not (tmp_path / "x.csv").exists()
