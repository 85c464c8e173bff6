"""Catalogs and light curves as observatories publish them, through the command: how many documents they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import client
from kowalski.cli.main import build
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]

COUNTS = [
    ("features", ["ZTF_source_features", "ztf_source_features", "--tag", "t"], {"ZTF_source_features_t": 123}),
    (
        "classifications",
        ["ZTF_source_classifications", "ztf_source_classifications", "--tag", "t"],
        {"ZTF_source_classifications_t": 9875},
    ),
    ("matchfiles", ["ZTF_matchfiles", "ztf_matchfiles", "--tag", "t"], {"ZTF_sources_t": 9, "ZTF_exposures_t": 5}),
    ("vlass", ["VLASS_DR1", "catalogs"], {"VLASS_DR1": 27}),
    ("igaps", ["IGAPS_DR2", "catalogs"], {"IGAPS_DR2": 100}),
    ("public", ["ZTF_public", "catalogs", "--tag", "t"], {"ZTF_public_sources_t": 5449}),
    ("ptf", ["PTF_matchfiles", "catalogs"], {"PTF_sources": 1145, "PTF_exposures": 2}),
    ("csv", ["all_vlass", "catalogs/CIRADA*.csv", "--batch-size", "10"], {"all_vlass": 99}),
    ("fits", ["igaps", "catalogs/igaps-dr1-215a-small.fits.gz", "--max-docs", "40"], {"igaps": 40}),
    (
        "parquet",
        [
            "dr5",
            "catalogs/ztf_000250_zg_c01_q1_dr5.parquet",
            "--id",
            "objectid",
            "--batch-size",
            "10",
            "--max-docs",
            "100",
        ],
        {"dr5": 100},
    ),
    ("hdf5", ["CLU", "catalogs/CLU_mini.hdf5"], {"CLU": 92}),
    ("sexagesimal", ["blazars", "catalogs/3hsp.csv", "--ra", "R.A.", "--dec", "Dec"], {"blazars": 2013}),
]
"""Of the two matchfiles that give 16 sources and 10 exposures the samples hold one: 9 of its 10 sources have points."""


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture(scope="module")
def run(archive: Any) -> Run:
    environment = services.environment(archive.settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(build(), ["ingest", *arguments], env=environment)


@pytest.fixture(scope="module")
def data(archive: Any) -> Database[Document]:
    return client.data_database(archive.mongo, archive.settings)


@pytest.mark.parametrize(("arguments", "counts"), [case[1:] for case in COUNTS], ids=[case[0] for case in COUNTS])
def test_counts(
    run: Run, data: Database[Document], sample_data: Path, arguments: list[str], counts: dict[str, int]
) -> None:
    name, path, *options = arguments
    done = run(name, str(sample_data / path), *options)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "0 rejected" in done.output
    for collection, count in counts.items():
        assert data[collection].count_documents({}) == count
