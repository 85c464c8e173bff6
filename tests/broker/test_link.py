"""One object in many surveys: both sides name each other, whoever comes first, and however often."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from kowalski.archive import filters, indexes, names
from kowalski.archive.aliases import Aliases
from kowalski.archive.client import connect, data_database
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.config import Settings
from kowalski.surveys import get, joins
from kowalski.testing import simulator

Record = dict[str, Any]
RA, DEC = 150.0, 20.0
ARCSEC = 1.0 / 3600.0


@pytest.fixture
def contexts(settings: Settings, mongo: MongoClient[Record]) -> Iterator[dict[str, WorkerContext]]:
    """Workers of two surveys."""
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch.clear()
    opened = {name: WorkerContext.open(settings, get(name)) for name in ("ZTF", "LSST")}
    for context in opened.values():
        indexes.ensure(context.data, settings, context.survey)
    yield opened
    for context in opened.values():
        context.data.client.close()


class Rubin:
    """Makes LSST packets at given places."""

    def __init__(self) -> None:
        made = (each.packet for each in simulator.packets(20, "LSST"))
        self._packet = next(packet for packet in made if packet["diaObject"])
        self._writer = simulator.writer("LSST")
        self._offset = 0

    def __call__(self, candid: int, name: int, ra: float = RA, dec: float = DEC, **source: Any) -> Packet:
        packet = copy.deepcopy(self._packet)
        packet["diaSource"] |= {"diaSourceId": candid, "diaObjectId": name, "ra": ra, "dec": dec} | source
        packet["diaObject"] = None
        self._offset += 1
        return Packet("lsst_20230225", 0, self._offset, 1_700_000_000_000, self._writer.encode(packet))


@pytest.fixture(scope="module")
def rubin() -> Rubin:
    return Rubin()


def aliases(context: WorkerContext) -> Record:
    return {one["_id"]: one["aliases"] for one in context.data[context.survey.objects].find()}


def test_both_sides_name_each_other_whoever_comes_first(
    contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin
) -> None:
    ztf, lsst = contexts["ZTF"], contexts["LSST"]
    process([packet(1, "ZTF23aaaaaaa"), packet(2, "ZTF23aaaaaab", dec=DEC + 1.0)], ztf)
    assert aliases(ztf) == {"ZTF23aaaaaaa": {}, "ZTF23aaaaaab": {}}
    near = [rubin(11, 21, dec=DEC + 1.4 * ARCSEC), rubin(12, 22, dec=DEC - 1.0 * ARCSEC)]
    process([*near, rubin(13, 23, dec=DEC + 1.7 * ARCSEC)], lsst)
    expected = {"ZTF23aaaaaaa": {"LSST": ["21", "22"]}, "ZTF23aaaaaab": {}}
    assert aliases(ztf) == expected
    assert aliases(lsst) == {"21": {"ZTF": ["ZTF23aaaaaaa"]}, "22": {"ZTF": ["ZTF23aaaaaaa"]}, "23": {}}
    process([packet(3, "ZTF23aaaaaac", ra=RA + 0.2 * ARCSEC)], ztf)  # another object beside them
    assert aliases(ztf)["ZTF23aaaaaac"] == {"LSST": ["21", "22"]}
    assert aliases(lsst)["21"] == {"ZTF": ["ZTF23aaaaaaa", "ZTF23aaaaaac"]}


def test_a_repetition_finishes_what_is_missing_and_changes_nothing_else(
    contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin
) -> None:
    ztf, lsst = contexts["ZTF"], contexts["LSST"]
    process([rubin(11, 21)], lsst)
    first = packet(1)
    process([first], ztf)
    done = aliases(ztf), aliases(lsst)
    assert done == ({"ZTF23aaaaaaa": {"LSST": ["21"]}}, {"21": {"ZTF": ["ZTF23aaaaaaa"]}})
    # As if the worker had died before it wrote the second side, or both.
    ztf.data["ZTF_alerts_aux"].update_many({}, {"$set": {"aliases": {}}})
    process([first], ztf)
    assert (aliases(ztf), aliases(lsst)) == done
    for context in contexts.values():
        context.data[context.survey.objects].update_many({}, {"$set": {"aliases": {}}})
    process([first], ztf)
    assert (aliases(ztf), aliases(lsst)) == done


def test_batches_at_the_same_time_miss_nobody(contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin) -> None:
    count = 12
    batches = {
        "ZTF": [packet(i, f"ZTF23{i:07d}", dec=DEC + i / 100) for i in range(count)],
        "LSST": [rubin(100 + i, 1000 + i, dec=DEC + i / 100) for i in range(count)],
    }
    barrier = threading.Barrier(4)

    def run(name: str, packets: list[Packet]) -> None:
        barrier.wait()
        for one in packets:
            process([one], contexts[name])

    threads = [
        threading.Thread(target=run, args=(name, packets))
        for name, all_of in batches.items()
        for packets in (all_of, all_of[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert aliases(contexts["ZTF"]) == {f"ZTF23{i:07d}": {"LSST": [str(1000 + i)]} for i in range(count)}
    assert aliases(contexts["LSST"]) == {str(1000 + i): {"ZTF": [f"ZTF23{i:07d}"]} for i in range(count)}


def test_what_moves_or_is_private_is_nobodys_alias(
    contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin
) -> None:
    ztf, lsst = contexts["ZTF"], contexts["LSST"]
    process([packet(1, "ZTF23private", programid=2)], ztf)
    process([rubin(11, 21), rubin(12, 0, ssObjectId=77)], lsst)
    assert aliases(lsst) == {"21": {}, "77": {}}
    assert ztf.data["ZTF_alerts_aux"].count_documents({"coordinates": {"$exists": True}}) == 0
    process([packet(2, "ZTF23private", 2460001.5, programid=1)], ztf)  # now all may know where it is
    assert aliases(ztf) == {"ZTF23private": {"LSST": ["21"]}}
    assert aliases(lsst) == {"21": {"ZTF": ["ZTF23private"]}, "77": {}}
    process([rubin(13, 23)], lsst)
    assert aliases(lsst)["23"] == {"ZTF": ["ZTF23private"]}


def test_the_errors_of_both_surveys_count(
    settings: Settings, contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin
) -> None:
    settings.surveys["ZTF"].position_error = 3.0
    settings.surveys["LSST"].position_error = 4.0
    ztf, lsst = contexts["ZTF"], contexts["LSST"]
    lsst.aliases = Aliases.of(lsst.data, settings, lsst.survey)
    process([packet(1)], ztf)
    process([rubin(11, 21, dec=DEC + 4.9 * ARCSEC), rubin(12, 22, dec=DEC + 5.1 * ARCSEC)], lsst)
    assert aliases(ztf) == {"ZTF23aaaaaaa": {"LSST": ["21"]}}


class Listener(CommandListener):
    """Remembers the commands on collections of other surveys."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []

    def started(self, event: Any) -> None:
        target = event.command.get(event.command_name)
        if isinstance(target, str) and target.startswith("LSST"):
            self.commands.append((event.command_name, target))

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def test_one_query_per_survey_and_batch(
    settings: Settings, contexts: dict[str, WorkerContext], packet: Any, rubin: Rubin
) -> None:
    """Without objects of the other survey it is one look whether there are any."""
    ztf, listener = contexts["ZTF"], Listener()
    with connect(settings, event_listeners=[listener]) as client:
        ztf.aliases = Aliases.of(data_database(client, settings), settings, ztf.survey)
        process([packet(i, f"ZTF23{i:07d}", dec=DEC + i / 100) for i in range(5)], ztf)
        assert listener.commands == [("find", "LSST_alerts_aux")]
        process([rubin(11, 21, dec=DEC + 0.01)], contexts["LSST"])
        listener.commands.clear()
        process([packet(i, f"ZTF23{i:07d}", dec=DEC + i / 100) for i in range(5, 10)], ztf)
        assert listener.commands == [("find", "LSST_alerts_aux"), ("aggregate", "LSST_alerts_aux")]
        listener.commands.clear()
        process([packet(i, f"ZTF23{i:07d}", dec=DEC + i / 100) for i in range(10, 15)], ztf)
        assert listener.commands == [("aggregate", "LSST_alerts_aux")]


# Filters


def add_filter(context: WorkerContext, number: int, stages: list[Record]) -> None:
    version = filters.new_version(json.dumps(stages))
    document = {
        "group_id": 1, "filter_id": number, "catalog": context.survey.alerts, "permissions": [1, 2], "active": True,
        "autosave": False, "auto_followup": {}, "update_annotations": False, "fv": [version],
        "active_fid": version["fid"],
    }  # fmt: skip
    context.system[names.FILTERS].insert_one(document)


def test_a_filter_sees_the_other_surveys_light_curve(
    contexts: dict[str, WorkerContext], packet: Any, make: Any, rubin: Rubin
) -> None:
    ztf, lsst = contexts["ZTF"], contexts["LSST"]
    count = {"$project": {"annotations": {"n": {"$size": "$LSST.prv_candidates"}, "of": "$aliases.LSST"}}}
    add_filter(ztf, 1, [{"$match": {"candid": {"$lt": 3}}}, count])
    add_filter(ztf, 2, [{"$match": {"LSST.prv_candidates.fid": "r"}}])
    add_filter(ztf, 3, [{"$match": {}}])
    rows = {"$project": {"annotations": {"programs": "$ZTF.prv_candidates.programid"}}}
    add_filter(lsst, 4, [{"$unset": "aliases"}, rows])
    packets = [rubin(11, 21), rubin(12, 22, dec=DEC + 0.5 * ARCSEC)]
    process(packets, lsst)
    earlier = [each.histories["prv_candidates"] for each in map(shaped, packets)]
    jd = max(row["jd"] for found in earlier for row in found) + 1.0
    private = make.detection(jd - 2.0, 5, programid=2)
    batch = [packet(1, jd=jd, prv_candidates=[private, make.detection(jd - 3.0, 6)]), packet(2, "other", jd, dec=0.0)]
    assert process(batch, ztf).passes == 1 + 2 + 2
    found = {one["_id"]["candid"]: one["passes"] for one in ztf.system[names.OUTBOX].find({"_id.survey": "ZTF"})}
    assert found[1]["1:1"]["annotations"] == {"n": sum(map(len, earlier)), "of": ["21", "22"]}
    assert found[2]["1:1"]["annotations"] == {"n": 0}
    assert set(found[2]) == {"1:1", "1:3"}
    process([rubin(13, 21)], lsst)
    (last,) = lsst.system[names.OUTBOX].find({"_id.candid": 13})
    assert last["passes"]["1:4"]["annotations"] == {"programs": [1]}


def shaped(packet: Packet) -> Any:
    (record,) = Decoder().records(packet.value)
    return get("LSST").shape(record)


def look_ups(stages: list[Record]) -> list[int]:
    return [at for at, stage in enumerate(stages) if "$lookup" in stage]


@pytest.mark.parametrize(
    ("stages", "places"),
    [
        ([{"$match": {"candidate.magpsf": {"$lt": 18}}}, {"$project": {"x": "$prv_candidates.LSST"}}], []),
        ([{"$match": {}}, {"$project": {"n": {"$size": "$LSST.fp_hists"}}}], [1]),
        ([{"$match": {"LSST.fp_hists.0": {"$exists": True}}}], [0]),
        ([{"$addFields": {"a": 1}}, {"$project": {"a": 1}}, {"$set": {"b": "$$ROOT.LSST"}}], [1]),
        ([{"$set": {"aliases": 1}}, {"$set": {"b": "$LSST"}}], [0]),
        ([{"$match": {}}, {"$set": {"both": ["$LSST.fp_hists", "$WNTR.prv_candidates"]}}], [1, 3]),
        ([{"$set": {"b": "$ZTF"}}, {}], []),
    ],
)  # fmt: skip
def test_look_ups_stand_where_a_survey_is_first_used(stages: list[Record], places: list[int]) -> None:
    before = copy.deepcopy(stages)
    woven = joins.woven(get("ZTF"), stages)
    assert look_ups(woven) == places
    assert stages == before
    assert [stage for stage in woven if stage in before] == before
