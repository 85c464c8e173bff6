"""What the benchmarks run on: alerts, catalogs and filters, from the workload scripts when they are there.

``KOWALSKI_BENCH`` names the folder of the scripts and ``KOWALSKI_SAMPLE_DATA`` that of the real alerts they start from;
without them the simulator makes the alerts, and catalogs and filters of the same kind are made here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pymongo.database import Database

from benchmarks import clones
from kowalski.archive import filters, names
from kowalski.broker.avro import Decoder
from kowalski.broker.schemas import SchemaStore
from kowalski.config import Settings
from kowalski.ingesters.cells import cell_fields
from kowalski.science.coordinates import best_order, healpix_field, sexagesimal
from kowalski.surveys.base import Survey

NIGHTS = ("20231012", "20231018", "20240715", "20200202")
CATALOGS = {"Gaia_EDR3": 2.0, "PS1_DR1": 2.0, "AllWISE": 2.0, "CLU_20190625": 300.0}
"""Catalogs of the workload and the radius of their cross-match in arcsec."""
CHUNK = 5000


def scripts() -> Path | None:
    """Folder of the workload scripts, if both they and the real alerts are there."""
    folder, data = os.environ.get("KOWALSKI_BENCH"), os.environ.get("KOWALSKI_SAMPLE_DATA")
    return Path(folder) if folder and data else None


def are_real() -> bool:
    """Whether workloads start from real alerts."""
    return scripts() is not None


def make_alerts(survey: Survey, folder: Path, n: int, repeats: float = 0.3, seed: int = 1) -> Path:
    """Make ``n`` alerts, ``repeats`` of them repeat visits, as files below ``folder``; made once, then found again."""
    kind = "real" if are_real() else "simulated"
    target = folder / f"{survey.name}-{n}-{repeats:g}-{seed}-{kind}"
    if (target / "complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    if are_real() and survey.name == "LSST":
        _clone(target, n, repeats, seed)
    else:
        subprocess.run(_maker(survey, target, n, repeats, seed), check=True, stdout=subprocess.DEVNULL)
    (target / "complete").touch()
    return target


def _maker(survey: Survey, target: Path, n: int, repeats: float, seed: int) -> list[str]:
    """Command that makes alerts; the scripts know those of ZTF."""
    common = ["--n", str(n), "--repeat-frac", str(repeats), "--seed", str(seed), "--out", str(target)]
    found = scripts()
    if found is None or survey.name != "ZTF":
        return [sys.executable, "-m", "kowalski.cli", "simulate", "--survey", survey.name, *common]
    data = Path(os.environ["KOWALSKI_SAMPLE_DATA"]) / "ztf_alerts"
    return [sys.executable, str(found / "make_alerts.py"), "--src", *(str(data / night) for night in NIGHTS), *common]


def _clone(target: Path, n: int, repeats: float, seed: int) -> None:
    data, schemas = Path(os.environ["KOWALSKI_SAMPLE_DATA"]), target / "schemas"
    clones.add_schemas(data, schemas)
    for number, message in enumerate(clones.clones(data, schemas, n, repeats, seed)):
        (target / f"{number:06d}.avro").write_bytes(message)


def add_schemas(survey: Survey, settings: Settings) -> None:
    """Give an instance the schemas that messages of the wire format need."""
    if are_real() and survey.name == "LSST":
        folder = SchemaStore.of(settings, survey).folder
        clones.add_schemas(Path(os.environ["KOWALSKI_SAMPLE_DATA"]), folder)


def positions(alerts: Path, survey: Survey, settings: Settings) -> list[dict[str, float]]:
    """Read where the alerts below a folder are: ``ra`` and ``dec`` in degrees."""
    decoder = Decoder(SchemaStore.of(settings, survey))
    shaped = (survey.shape(record) for path in alerts.rglob("*.avro") for record in decoder.records(path.read_bytes()))
    return [{"ra": alert.ra, "dec": alert.dec} for alert in shaped]


def load_catalogs(data: Database[dict[str, Any]], around: list[dict[str, float]], rows: int, *, cells: bool) -> None:
    """Fill the four catalogs with ``rows`` sources each, some of them near the alerts."""
    for name, radius in CATALOGS.items():
        order = best_order(radius, [8, 14, 16]) if cells else None
        data[name].drop()
        chunk: list[dict[str, Any]] = []
        for row in _rows(name, around, rows):
            chunk.append(row)
            if len(chunk) == CHUNK:
                data[name].insert_many(_placed(chunk, order), ordered=False)
                chunk = []
        if chunk:
            data[name].insert_many(_placed(chunk, order), ordered=False)
        data[name].create_index([("coordinates.radec_geojson", "2dsphere"), ("_id", 1)], name="radec__id")
        if order is not None:
            data[name].create_index([(healpix_field(order), 1)], name=f"hpx_{order}")


def _rows(name: str, around: list[dict[str, float]], rows: int) -> Iterator[dict[str, Any]]:
    found = scripts()
    if found is not None:
        yield from _script(found / "make_catalogs.py").rows_of(name, around, rows, 0.6, 1)
        return
    rng = np.random.default_rng(len(name))
    for identifier in range(1, rows + 1):
        near = around[int(rng.integers(len(around)))] if rng.random() < 0.5 else None
        ra = rng.uniform(0, 360) if near is None else (near["ra"] + rng.normal(0, 0.001)) % 360
        dec = (
            np.degrees(np.arcsin(rng.uniform(-1, 1)))
            if near is None
            else np.clip(near["dec"] + rng.normal(0, 0.001), -90, 90)
        )
        yield {"_id": identifier, "ra": float(ra), "dec": float(dec), "z": float(rng.uniform(0.001, 0.05))}


def _placed(rows: list[dict[str, Any]], order: int | None) -> list[dict[str, Any]]:
    ra, dec = [row["ra"] for row in rows], [row["dec"] for row in rows]
    cells = cell_fields(ra, dec, [order]) if order is not None else [{} for _ in rows]
    for row, fields in zip(rows, cells, strict=True):
        point = {"type": "Point", "coordinates": [row["ra"] - 180.0, row["dec"]]}
        row["coordinates"] = {"radec_str": sexagesimal(row["ra"], row["dec"]), "radec_geojson": point, **fields}
    return rows


def load_filters(system: Database[dict[str, Any]], settings: Settings, survey: Survey, n: int) -> None:
    """Store ``n`` active user filters."""
    system[names.FILTERS].delete_many({})
    for body in _filters(survey, n):
        version = filters.new_version(json.dumps(body.pop("pipeline")))
        now = datetime.now(UTC)
        document = {**body, "active": True, "auto_followup": {}, "fv": [version], "active_fid": version["fid"]}
        system[names.FILTERS].insert_one({**document, "created_at": now, "last_modified": now})


def _filters(survey: Survey, n: int) -> list[dict[str, Any]]:
    found = scripts()
    if found is not None:
        command = [sys.executable, str(found / "make_filters.py"), "--n", str(n)]
        bodies: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return bodies
    stages = [
        {"$match": {"candidate.drb": {"$gt": 0.5}}},
        {
            "$addFields": {
                "good": {"$filter": {"input": "$prv_candidates", "as": "p", "cond": {"$gt": ["$$p.magpsf", 0]}}}
            }
        },
        {"$match": {"good.0": {"$exists": True}}},
        {"$project": {"annotations": {"n": {"$size": "$good"}}}},
    ]
    common = {"catalog": survey.alerts, "permissions": [1], "autosave": False, "update_annotations": True}
    return [{"group_id": 1 + i % 5, "filter_id": i + 1, "pipeline": stages, **common} for i in range(n)]


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
