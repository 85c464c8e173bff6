"""Everything goes wrong at once while passes flow: each must be at SkyPortal once, complete and in order.

``KOWALSKI_LONG_FAULTS=1`` takes 500 passes instead of 160, and lets SkyPortal be down for a minute and take ten seconds
for its slow answers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kowalski.config import Settings
from kowalski.testing import services
from kowalski.testing.courier import until
from kowalski.testing.skyportal import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LONG = bool(os.environ.get("KOWALSKI_LONG_FAULTS"))
OUTAGE = 60.0 if LONG else 3.0
"""How long SkyPortal is down, seconds."""
SLOW = 10.0 if LONG else 1.5
"""How long its slow answers take, seconds: longer than most calls wait."""
PATIENCE = 600.0

OBJECTS, ALERTS = (50, 5) if LONG else (20, 4)
FILTERS = (1, 2)
PASSES = OBJECTS * ALERTS * len(FILTERS)
TROUBLE = (
    Fault(status=429, retry_after=1, probability=0.02, times=3),
    Fault(status=502, probability=0.02),
    Fault(status=500, probability=0.02),
    Fault(method="POST|PUT", drop=True, probability=0.05),
    Fault(delay=SLOW, probability=0.005),
)


def followup(filter_id: int) -> dict[str, Any]:
    """Each filter has an allocation of its own: one request per object and rule."""
    return {
        "allocation_id": 10 + filter_id,
        "payload": {"observation_type": "IFU", "priority": filter_id},
        "priority_key": "priority",
        "comment": f"rule {filter_id}",
        "target_group_ids": [filter_id],
    }


def passes(archive: Any) -> list[dict[str, Any]]:
    saving = {"comment": "saved", "ignore_group_ids": [], "saver_id": None}
    return [
        archive.a_pass(number, number, update_annotations=number == 2, autosave=saving, followup=followup(number))
        for number in FILTERS
    ]


def flow(archive: Any) -> None:
    """Hand over one alert of each object after the other; each packet repeats the object's earlier alerts."""
    earlier: dict[int, list[dict[str, Any]]] = {number: [] for number in range(OBJECTS)}
    for round_ in range(ALERTS):
        for number in range(OBJECTS):
            candid = 1000 * number + round_
            packet = archive.packet(
                candid, f"object {number}", 2459000.5 + round_, ra=10.0 + number, magpsf=18.0 + round_
            )
            packet["prv_candidates"] = list(earlier[number])
            packet |= {} if round_ == 0 else dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"))
            archive.both(packet, *passes(archive))
            earlier[number].append(packet["candidate"])


class Couriers:
    """A courier in a process of its own that is killed and started again."""

    def __init__(self, settings: Settings, log: Path) -> None:
        code = "from kowalski import config; from kowalski.courier.courier import main; main(config.load().settings)"
        command = [sys.executable, "-c", code]
        self.process = services.Process("courier", command, services.environment(settings), log)
        self.kills = 0

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)
        self.kills += 1
        self.process.start()


async def test_nothing_is_lost_or_doubled(settings: Settings, archive: Any, fake: Any, tmp_path: Path) -> None:
    own = settings.skyportal
    own.timeout_seconds, own.settle_seconds, own.lanes = SLOW * 0.8, SLOW * 1.5, 16
    couriers = Couriers(settings, tmp_path / "courier.log")

    async def arrived(share: float) -> None:
        await until(lambda: len(fake.memory.candidates) >= share * PASSES, PATIENCE)

    fake.fail(*TROUBLE)
    couriers.process.start()
    flowing = asyncio.create_task(asyncio.to_thread(flow, archive))
    try:
        await arrived(0.1)
        await couriers.kill()
        await arrived(0.25)
        await fake.stop()
        await asyncio.sleep(OUTAGE / 2)
        await couriers.kill()
        await asyncio.sleep(OUTAGE / 2)
        await fake.start()
        fake.fail(*TROUBLE)
        await arrived(0.4)
        await couriers.kill()
        await arrived(0.55)
        await fake.stop()
        await fake.start()
        fake.fail(*TROUBLE)
        await couriers.kill()
        await arrived(0.75)
        await couriers.kill()
        await flowing
        await until(lambda: Counter(archive.states().values()) == {"delivered": OBJECTS * ALERTS}, PATIENCE)
    finally:
        await asyncio.to_thread(couriers.process.stop)
        await flowing
    assert couriers.kills == 5
    check(fake.memory, fake.requests)


def check(memory: Any, requests: list[Mapping[str, Any]]) -> None:
    """Compare what SkyPortal has with what passed."""
    names = {f"object {number}" for number in range(OBJECTS)}
    expected = {1000 * number + round_ for number in range(OBJECTS) for round_ in range(ALERTS)}
    posted = Counter((each["passing_alert_id"], each["filter_id"]) for each in memory.candidates)
    assert posted == {(candid, number): 1 for candid in expected for number in FILTERS}
    for name in names:
        order = [each["passing_alert_id"] for each in memory.candidates if each["id"] == name]
        assert order == sorted(order)
    assert set(memory.annotations) == {f"{name}|group {number}:filter {number}" for name in names for number in FILTERS}
    points = Counter((each["obj_id"], each["mjd"]) for each in memory.photometry.values())
    assert points == {(name, 59000.0 + round_): 1 for name in names for round_ in range(ALERTS)}
    assert set(memory.thumbnails) == {f"{name}|{ttype}" for name in names for ttype in ("new", "ref", "sub")}
    assert set(memory.sources) == {f"{name}|{number}" for name in names for number in FILTERS}
    comments = Counter((each["obj_id"], each["text"], each["groups"][0]["id"]) for each in memory.comments)
    texts = [(text, number) for number in FILTERS for text in ("saved", f"rule {number}")]
    assert comments == {(name, text, number): 1 for name in names for text, number in texts}
    asked = Counter((each["obj_id"], each["allocation_id"]) for each in requests)
    assert asked == {(name, 10 + number): 1 for name in names for number in FILTERS}
