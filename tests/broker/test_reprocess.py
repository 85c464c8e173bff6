"""Stored alerts through stages again: new scores, matches and passes; resumed after a kill; nothing posted unasked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper
from pymongo import MongoClient
from typer.testing import CliRunner

from kowalski.archive import filters, names
from kowalski.archive.outbox import pass_key
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.cli.main import build
from kowalski.config import PROJECT, Settings
from kowalski.config.settings import CrossMatch, Model
from kowalski.ml import ready
from kowalski.surveys import get
from kowalski.testing import services

Record = dict[str, Any]
Run = Callable[..., Result]
SURVEY = get("ZTF")
CANDIDS = range(1, 13)
BRIGHT = [{"$match": {"candidate.magpsf": {"$lt": 18.6}}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]
HISTORY = [{"$project": {"annotations": {"earlier": {"$size": "$prv_candidates"}}}}]
SLOW = [{"$match": {"$expr": {"$gt": [{"$reduce": {
    "input": {"$range": [0, 60_000]}, "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}, -1]}}}]  # fmt: skip


def write_model(folder: Path, version: str, bias: float) -> None:
    """A model whose score is the magnitude plus ``bias``."""
    weights = numpy_helper.from_array(np.array([[bias]], np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Add", ["features", "bias"], ["score"])],
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    folder.mkdir(exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(folder / f"tiny.{version}.onnx"))


def declare(settings: Settings, version: str) -> None:
    """Let ZTF's alerts be scored by that model alone."""
    models = settings.ml.of("ZTF").models
    models.clear()
    models["tiny"] = Model(version=version, triplet=False, feature_names=("magpsf",), format="onnx")
    ready.ensure_ready(settings, lambda *_: None)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    settings.path.models = tmp_path / "models"
    settings.broker.batch_size = 5
    settings.ml.of("ZTF").allowed_features = (*settings.ml.of("ZTF").allowed_features, "magpsf")
    for version, bias in (("v1", 0.0), ("v2", 100.0)):
        write_model(settings.path.models, version, bias)
    declare(settings, "v1")
    settings.database.xmatch["ZTF"] = {"stars": CrossMatch(cone_search_radius=2.0, projection={"_id": 1})}
    return settings


@pytest.fixture
def context(settings: Settings, mongo: MongoClient[Record]) -> Iterator[WorkerContext]:
    opened = WorkerContext.open(settings, SURVEY)
    opened.data[SURVEY.alerts].create_index([("candidate.jd", -1), ("candid", -1)])
    yield opened
    opened.data.client.close()


def add_filter(context: WorkerContext, number: int, stages: list[Record]) -> None:
    version = filters.new_version(json.dumps(stages))
    context.system[names.FILTERS].insert_one({
        "filter_id": number, "group_id": 1, "catalog": SURVEY.alerts, "permissions": [1], "active": True,
        "autosave": False, "update_annotations": False, "active_fid": version["fid"], "fv": [version],
    })  # fmt: skip
    context.filters.reload()


@pytest.fixture
def stored(context: WorkerContext, packet: Any, make: Any) -> WorkerContext:
    """Twelve alerts of six objects, two a night, scored by v1, without catalog; filter 1 passes the brighter half."""
    add_filter(context, 1, BRIGHT)
    packets = [
        packet(
            candid,
            f"ZTF23aaaaaa{candid % 6}",
            2460000.5 + candid // 2,
            magpsf=17.0 + 0.25 * candid,
            prv_candidates=[make.detection(2459990.5 + candid, candid=100 + candid)],
        )
        for candid in CANDIDS
    ]
    assert process(packets, context).alerts == len(CANDIDS)
    return context


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: str) -> Result:
        for name, value in services.environment(settings).items():
            monkeypatch.setenv(name, value)
        nights = ("--survey", "ztf", "--from", "20230225", "--to", "2023-03-10")
        return CliRunner().invoke(build(), ["reprocess", *nights, *words])

    return call


def scores(context: WorkerContext) -> dict[int, Any]:
    return {one["_id"]: one["classifications"] for one in context.data[SURVEY.alerts].find()}


def magnitude(candid: int) -> float:
    return 17.0 + 0.25 * candid


def test_a_new_model_scores_what_is_stored(stored: WorkerContext, settings: Settings, run: Run) -> None:
    assert scores(stored)[3] == {"tiny": pytest.approx(magnitude(3)), "tiny_version": "v1"}
    before = list(stored.data[SURVEY.objects].find().sort("_id"))
    declare(settings, "v2")
    told = run("--stages", "score", "--dry-run")
    assert "12 alerts of ZTF" in told.output
    assert "tiny v2" in told.output
    assert scores(stored)[3]["tiny_version"] == "v1"
    assert stored.system[names.REPROCESSING].count_documents({}) == 0

    done = run("--stages", "score")
    assert done.exit_code == 0, done.output
    assert "no Dask workers are up: working in this process" in done.output
    assert "12 alerts processed, 0 passes, 0 alerts failed" in done.output
    new = {candid: {"tiny": pytest.approx(100 + magnitude(candid)), "tiny_version": "v2"} for candid in CANDIDS}
    assert scores(stored) == new
    assert list(stored.data[SURVEY.objects].find().sort("_id")) == before


def test_only_the_nights_that_are_asked_for(stored: WorkerContext, settings: Settings, run: Run) -> None:
    declare(settings, "v2")
    assert "4 alerts processed" in run("--stages", "score", "--from", "20230227", "--to", "20230228").output
    versions = {candid: one["tiny_version"] for candid, one in scores(stored).items()}
    assert {candid for candid, version in versions.items() if version == "v2"} == {4, 5, 6, 7}


def test_a_new_catalog_is_matched_with_what_is_stored(stored: WorkerContext, run: Run) -> None:
    place = {"radec_geojson": {"type": "Point", "coordinates": [150.0 - 180.0, 20.0]}}
    stored.data["stars"].insert_one({"_id": 7, "coordinates": place})
    stored.data["stars"].create_index([("coordinates.radec_geojson", "2dsphere")])
    objects = stored.data[SURVEY.objects]
    assert not any(one["cross_matches"] for one in objects.find())
    before = list(objects.find({}, {"cross_matches": 0}).sort("_id"))
    assert run("--stages", "crossmatch").exit_code == 0
    assert [one["cross_matches"] for one in objects.find()] == [{"stars": [{"_id": 7}]}] * 6
    assert list(objects.find({}, {"cross_matches": 0}).sort("_id")) == before

    stored.data["stars"].delete_many({})
    assert run("--stages", "crossmatch").exit_code == 0
    assert [one["cross_matches"] for one in objects.find()] == [{"stars": []}] * 6


def test_passes_of_a_new_filter_are_put_on_record_and_earlier_ones_left_alone(
    stored: WorkerContext, settings: Settings, run: Run
) -> None:
    settings.skyportal.enabled = True
    outbox = stored.system[names.OUTBOX]
    delivered = {"state": "delivered", "steps": ["candidate:1:1"], "delivered_at": datetime(2023, 3, 1)}
    outbox.update_many({}, {"$set": {**delivered, "passes.1:1.deliver": True}})
    before = {one["_id"]["candid"]: one for one in outbox.find()}
    assert set(before) == {1, 2, 3, 4, 5, 6}
    add_filter(stored, 2, HISTORY)

    assert "12 alerts processed, 18 passes" in run("--stages", "filter").output
    after = {one["_id"]["candid"]: one for one in outbox.find()}
    assert set(after) == set(CANDIDS)
    for candid, one in after.items():
        new = one["passes"].pop(pass_key(1, 2))
        assert new["deliver"] is False
        # what an alert's filter sees of the object is what was measured before it
        expected = sum(2459990.5 + each < 2460000.5 + candid // 2 for each in CANDIDS if each % 6 == candid % 6)
        assert new["annotations"] == {"earlier": expected}
        if candid in before:
            assert one == before[candid]
        else:
            assert (one["state"], one["passes"]) == ("kept", {})
    again = list(outbox.find().sort("_id.candid"))
    assert "18 passes" in run("--stages", "filter").output
    assert list(outbox.find().sort("_id.candid")) == again
    assert stored.system[names.FILTER_STATISTICS].count_documents({}) == 0


def test_what_can_not_be_done_is_told_in_a_sentence(stored: WorkerContext, settings: Settings, run: Run) -> None:
    def told(*words: str) -> str:
        done = run(*words)
        assert done.exit_code == 2
        return " ".join(done.output.replace("│", " ").split())

    assert "store can't be done again; choose from score, crossmatch, filter" in told("--stages", "store")
    assert "is no night" in told("--from", "yesterday")
    assert "--to is before --from" in told("--to", "20220101")
    assert "--post needs an outlet that is on" in told("--post")
    assert "it needs the stage filter" in told("--post", "--stages", "score")
    assert "0 alerts processed" in run("--from", "20200101", "--to", "20200102").output
    # one damaged document costs nobody else anything
    declare(settings, "v2")
    stored.data[SURVEY.alerts].update_one({"_id": 5}, {"$set": {"candidate.jdstarthist": 1.0, "candidate.drb": {}}})
    stored.data[SURVEY.alerts].update_one({"_id": 5}, {"$unset": {"candidate.ra": ""}})
    done = run("--stages", "score")
    assert done.exit_code == 1
    assert "12 alerts processed, 0 passes, 1 alerts failed" in done.output
    assert "5: read: KeyError: 'ra'" in done.output
    assert {one["tiny_version"] for candid, one in scores(stored).items() if candid != 5} == {"v2"}


def test_a_run_that_is_killed_goes_on_where_it_was(
    stored: WorkerContext, settings: Settings, run: Run, mongo: MongoClient[Record], packet: Any
) -> None:
    """By Dask workers; what is left is what one run leaves, and little is done twice."""
    more = [packet(candid, f"ZTF23aaaaab{candid % 9}", 2460003.5 + candid / 1000) for candid in range(101, 161)]
    assert process(more, stored).alerts == 60
    add_filter(stored, 3, SLOW)
    settings.broker.batch_size, settings.broker.in_flight = 1, 2
    settings.filters.max_time_ms = settings.filters.batch_max_time_ms = 60_000
    declare(settings, "v2")
    marks = stored.system[names.REPROCESSING]
    command = ["reprocess", "--survey", "ZTF", "--from", "20230225", "--to", "20230310"]
    with services.dask_cluster(settings):
        environment = {**os.environ, **services.environment(settings)}
        argv = [sys.executable, "-m", "kowalski.cli", *command]
        child = subprocess.Popen(argv, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while (mark := marks.find_one({"done": {"$gt": 0}})) is None:
                assert child.poll() is None, "it has ended before it noted anything"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert mark["finished_at"] is None
        done = run()
    assert done.exit_code == 0, done.output
    assert "going on with an interrupted run: " in done.output
    assert "no Dask workers" not in done.output
    assert "72 alerts processed" in done.output
    (ended,) = marks.find()
    assert (ended["run"], ended["done"], ended["total"]) == (mark["run"], 72, 72)
    assert ended["finished_at"].replace(tzinfo=UTC) <= datetime.now(UTC)
    assert {one["tiny_version"] for one in scores(stored).values()} == {"v2"}
    passed = {one["_id"]["candid"]: set(one["passes"]) for one in stored.system[names.OUTBOX].find()}
    assert {candid for candid, keys in passed.items() if "1:3" in keys} == {*CANDIDS, *range(101, 161)}
    assert {candid for candid, keys in passed.items() if "1:1" in keys} == {*range(1, 7), *range(101, 161)}
