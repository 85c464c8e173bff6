"""What docs/catalogs.md shows runs as it stands there, and prints what it says."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from kowalski.archive import client
from kowalski.cli.main import build
from kowalski.config import PROJECT
from kowalski.ingesters import declarations
from kowalski.testing import services, simulator

TEXT = (PROJECT / "docs" / "catalogs.md").read_text()
FILES = re.findall(r"^`(\S+)`:\n\n```csv\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
SHOWN = [line for language, block in BLOCKS if not language for line in block.splitlines()]
COMMAND = "./kowalski.py "


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the guide is read in: with its tables, and those that are too long to be shown."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    partition = tmp_path / "quasars_hats" / "dataset" / "Norder=0" / "Dir=0"
    partition.mkdir(parents=True)
    (tmp_path / "quasars_hats" / "hats.properties").write_text("hats_col_ra=RAJ\nhats_col_dec=DEJ\n")
    columns = {"RAJ": np.linspace(10.0, 20.0, 40), "DEJ": np.linspace(-5.0, 5.0, 40), "z": np.arange(40)}
    pq.write_table(pa.table(columns), partition / "Npix=4.parquet")
    (tmp_path / "public").mkdir()
    whole = {"objectid": [1, 2], "filterid": [1, 2], "fieldid": [250, 250], "rcid": [0, 0], "nepochs": [1, 1]}
    curves = {name: [[1.0], [2.0]] for name in ("hmjd", "mag", "magerr", "clrcoeff", "catflags")}
    table = pa.table(whole | {"objra": [3.0, 4.0], "objdec": [5.0, 6.0]} | curves)
    pq.write_table(table, tmp_path / "public" / "ztf_000250_zg_c01_q1_dr5.parquet")
    (tmp_path / "nights").mkdir()
    writer = simulator.writer("ZTF")
    with tarfile.open(tmp_path / "nights" / "ztf_public_20231012.tar.gz", "w:gz") as night:
        for each in simulator.packets(3, "ZTF"):
            packet = writer.encode(each.packet)
            member = tarfile.TarInfo(f"{each.packet['candid']}.avro")
            member.size = len(packet)
            night.addfile(member, io.BytesIO(packet))
    return tmp_path


def test_the_commands_print_what_the_guide_says(archive: Any, folder: Path) -> None:
    environment = services.environment(archive.settings) | {"COLUMNS": "200"}
    printed, commands = "", 0
    for line in filter(None, SHOWN):
        if not line.startswith(COMMAND):
            assert line in printed
            continue
        done = CliRunner().invoke(build(), shlex.split(line.removeprefix(COMMAND)), env=environment)
        assert done.exit_code == 0, f"{line}: {done.output}{done.exception!r}"
        printed, commands = done.output, commands + 1
    assert commands > 10
    data = client.data_database(archive.mongo, archive.settings)
    assert {each["_id"]: each.get("gmag") for each in data["my_stars"].find()} == {11: 17.31, 12: None, 13: 15.9}
    assert [each["redshift"] for each in data["blazars"].find().sort("_id", 1)] == [0.31, 0.5]
    assert "my_quasars" not in data.list_collection_names()


def test_the_guide_tells_of_catalogs_that_are_known() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT)) | set(re.findall(r"ingest (\w+) ", TEXT))
    assert {"PS1_PSC", "ZTF_source_features", "ZTF_alert_aux", "ZTF_public"} <= named & declarations.known().keys()
