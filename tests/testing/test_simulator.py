"""Simulated packets are what a survey could have sent: schema-true, consistent, and the same for the same seed."""

from __future__ import annotations

import io
from collections import Counter
from datetime import date

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kowalski.broker.avro import Decoder
from kowalski.science import stamps
from kowalski.surveys import get
from kowalski.testing.simulator import Simulated, simulate

SURVEY = get("ZTF")


@pytest.fixture(scope="module")
def night() -> list[Simulated]:
    return list(simulate(400, seed=3))


def test_equal_seeds_make_equal_packets(night: list[Simulated]) -> None:
    assert list(simulate(50, seed=3)) == night[:50]
    assert [packet.value for packet in simulate(5, seed=4)] != [packet.value for packet in night[:5]]


def test_strict_readers_take_every_packet(night: list[Simulated]) -> None:
    decoder = Decoder()
    for packet in night:
        (expected,) = fastavro.reader(io.BytesIO(packet.value))
        assert decoder.records(packet.value) == [expected] or np.isnan(expected["candidate"]["magpsf"])


@given(st.integers(0, 2**31), st.dates(date(2018, 3, 1), date(2030, 1, 1)))
@settings(max_examples=20, deadline=None)
def test_any_seed_and_night_can_be_taken_in(seed: int, when: date) -> None:
    for packet in simulate(3, seed, when):
        (record,) = Decoder().records(packet.value)
        alert = SURVEY.shape(record)
        assert (alert.candid, alert.object_id) == (packet.candid, packet.object_id)
        assert 0.0 < alert.jd - (when.toordinal() + 1721424.5) < 1.0


def test_packets_of_one_night_belong_together(night: list[Simulated]) -> None:
    """All classes, distinct candids, repeat visits whose history holds the earlier alerts."""
    assert set(Counter(packet.kind for packet in night)) == {"SN Ia", "RR Lyrae", "AGN", "asteroid", "bogus"}
    assert len({packet.candid for packet in night}) == len(night)
    visits = Counter(packet.object_id for packet in night)
    assert 0.1 < 1 - len(visits) / len(night) < 0.35
    seen: dict[str, list[dict[str, object]]] = {}
    for packet in night:
        (record,) = Decoder().records(packet.value)
        history = {row["candid"]: row for row in record["prv_candidates"] if row["candid"] is not None}
        for earlier in seen.setdefault(packet.object_id, []):
            row = history[earlier["candid"]]
            assert row == {name: earlier[name] for name in row}
        seen[packet.object_id].append(record["candidate"])
        jds = [row["jd"] for row in record["prv_candidates"]]
        assert all(record["candidate"]["jd"] - 30 < jd < record["candidate"]["jd"] for jd in jds)
        assert [row["jd"] for row in record["fp_hists"]] == jds


def test_stamps_show_the_source(night: list[Simulated]) -> None:
    """A real positive source is a bright spot in the middle of the difference image."""
    shown = 0
    for packet in night:
        (record,) = Decoder().records(packet.value)
        alert = SURVEY.shape(record)
        images = [
            stamps.read(data) for data in (alert.stamps.science, alert.stamps.template, alert.stamps.difference) if data
        ]
        assert len(images) == 3
        difference = images[2]
        candidate = record["candidate"]
        if (
            difference.shape == (63, 63)
            and packet.kind != "bogus"
            and candidate["isdiffpos"] == "t"
            and candidate["magpsf"] < 18
        ):
            shown += 1
            assert difference[28:35, 28:35].max() > 3 * np.nanstd(difference[:20])
    assert shown > 20
