"""Objects' histories from archives of alert packets, through the command."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import client
from kowalski.broker.avro import Decoder
from kowalski.cli.main import build
from kowalski.surveys import get
from kowalski.testing import services, simulator

Document = dict[str, Any]
SURVEY = get("ZTF")


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    """Packets of a night, real ones where there are any; two are of one object."""
    samples = os.environ.get("KOWALSKI_SAMPLE_DATA")
    if samples:
        return [path.read_bytes() for path in sorted((Path(samples) / "ztf_alerts" / "20200202").glob("*.avro"))]
    writer = simulator.writer(SURVEY.name)
    return [writer.encode(each.packet) for each in simulator.packets(12, SURVEY.name)]


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture(scope="module")
def data(archive: Any) -> Database[Document]:
    return client.data_database(archive.mongo, archive.settings)


@pytest.fixture(scope="module")
def run(archive: Any) -> Callable[..., Result]:
    environment = services.environment(archive.settings) | {"COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(build(), ["ingest", *arguments], env=environment)


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> str:
    with tarfile.open(path, f"w:{path.suffix.strip('.')}".removesuffix("tar")) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def histories(packets: list[bytes]) -> dict[str, list[tuple[float, Any]]]:
    """When each object was looked at, and the candid where something was seen: told by the packets alone."""
    found: dict[str, set[tuple[float, Any]]] = {}
    for packet in packets:
        (record,) = Decoder().records(packet)
        rows = record["prv_candidates"] or []
        found.setdefault(record["objectId"], set()).update((row["jd"], row.get("candid")) for row in rows)
    return {name: sorted(rows, key=str) for name, rows in found.items()}


def test_an_archive_of_packets_becomes_histories_and_nothing_else(
    archive: Any, run: Callable[..., Result], data: Database[Document], packets: list[bytes], tmp_path: Path
) -> None:
    files = [(f"night/{number}.avro", packet) for number, packet in enumerate(packets)]
    night = write(tmp_path / "ztf_public_20200202.tar.gz", [*files[:5], ("broken.avro", packets[0][:3000]), *files[5:]])
    (first,) = Decoder().records(packets[0])
    position = first["candidate"]["ra"], first["candidate"]["dec"]
    (tmp_path / "gaia.csv").write_text(f"source_id,ra,dec,parallax\n7,{position[0]},{position[1]},1.5\n")
    assert run("Gaia_EDR3", str(tmp_path / "gaia.csv")).exit_code == 0

    assert f"{len(packets)} would be stored" not in run("ZTF_alert_aux", night, "--verify").output
    done = run("ZTF_alert_aux", night)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert f"ZTF_alerts_aux: {len(packets)} stored, 1 rejected" in done.output
    (rejected,) = map(json.loads, (archive.settings.path.run / "ingest/ZTF_alerts_aux-rejected.jsonl").open())
    assert (rejected["row"], rejected["file"]) == (5, "ztf_public_20200202.tar.gz")

    objects = {each["_id"]: each for each in data[SURVEY.objects].find()}
    found = {name: [(row["jd"], row.get("candid")) for row in each["prv_candidates"]] for name, each in objects.items()}
    assert {name: sorted(rows, key=str) for name, rows in found.items()} == histories(packets)
    assert {field for each in objects.values() for field in each} <= {
        "_id", "prv_candidates", "cross_matches", "aliases", "coordinates",
    }  # fmt: skip
    assert [match["_id"] for match in objects[first["objectId"]]["cross_matches"]["Gaia_EDR3"]] == ["7"]
    assert SURVEY.alerts not in data.list_collection_names() or not data[SURVEY.alerts].count_documents({})


def test_what_is_known_is_left_as_it_is_and_what_lacks_is_filled_in(
    run: Callable[..., Result], data: Database[Document], packets: list[bytes], tmp_path: Path
) -> None:
    """Again in another order, after one object lost rows and the alert of another came by Kafka."""
    data[SURVEY.objects].delete_many({})
    night = write(tmp_path / "ztf_partnership_20200202.tar", [(f"{i}.avro", each) for i, each in enumerate(packets)])
    assert run("ZTF_alert_aux", night).exit_code == 0
    assert f"{len(packets)} are stored as they are" in run("ZTF_alert_aux", night, "--verify").output
    before = list(data[SURVEY.objects].find().sort("_id", 1))
    name, kept = next((each["_id"], each["prv_candidates"]) for each in before if len(each["prv_candidates"]) > 2)
    data[SURVEY.objects].update_one({"_id": name}, {"$set": {"prv_candidates": kept[1:]}})
    (other,) = next(records for packet in packets if (records := Decoder().records(packet))[0]["objectId"] != name)
    data[SURVEY.alerts].insert_one({"_id": other["candid"], "objectId": other["objectId"]})
    done = run("ZTF_alert_aux", night, "--verify")
    assert done.exit_code == 1
    backwards = write(
        tmp_path / "ztf_public_20200203.tar", [(f"{i}.avro", each) for i, each in enumerate(packets[::-1])]
    )
    done = run("ZTF_alert_aux", backwards)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "were there already, 0 rejected" in done.output
    assert list(data[SURVEY.objects].find().sort("_id", 1)) == before


def test_a_damaged_archive_is_told_and_goes_on_when_it_is_whole(
    run: Callable[..., Result], data: Database[Document], packets: list[bytes], tmp_path: Path
) -> None:
    data[SURVEY.objects].delete_many({})
    data[SURVEY.alerts].delete_many({})
    path = tmp_path / "ztf_public_20200204.tar.gz"
    write(path, [(f"{i}.avro", each) for i, each in enumerate(packets)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = run("ZTF_alert_aux", str(path), "--batch-size", "2")
    assert done.exit_code == 1
    assert "can't be read to its end as a tar archive" in str(done.exception)
    assert 0 < data[SURVEY.objects].count_documents({}) < len(histories(packets))
    path.write_bytes(whole)
    assert run("ZTF_alert_aux", str(path), "--resume").exit_code == 0
    assert {each["_id"] for each in data[SURVEY.objects].find({}, {"_id": 1})} == histories(packets).keys()
