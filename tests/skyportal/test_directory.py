from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kowalski.courier.errors import NotYet, Refused, TryAgain
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.directory import FRESH, MISSING, Directory
from kowalski.testing.skyportal import Fault, shapes


async def test_asks_once_for_many(skyportal: SkyPortal, fake: Any) -> None:
    directory = Directory(skyportal)
    found = await asyncio.gather(*(directory.stream_id(name) for name in ["ZTF Public", "ZTF Public+Partnership"] * 3))
    assert found == [1, 2] * 3
    assert [await directory.instrument_id("ZTF") for _ in range(3)] == [1, 1, 1]
    assert fake.memory.calls == {"GET /api/streams": 1, "GET /api/instrument": 1}


async def test_a_stream_may_be_told_by_a_word_of_its_name(skyportal: SkyPortal) -> None:
    directory = Directory(skyportal)
    exact = await directory.stream_id("WINTER", ("winter",))
    assert await directory.stream_id("the infrared one", ("wntr", "winter")) == exact
    assert await directory.stream_id("ZTF Public", ("partnership",)) == 1  # the name comes first
    with pytest.raises(NotYet, match="stream ZTF"):
        await directory.stream_id("ZTF")


async def test_asks_again_after_a_while(skyportal: SkyPortal, fake: Any) -> None:
    now = [0.0]
    directory = Directory(skyportal, clock=lambda: now[0])
    fake.memory.add_group(shapes.Group(id=1, name="long name", nickname="old", filters={"1": "f"}))
    assert await directory.origin(1, 1) == "old:f"
    fake.memory.add_group(shapes.Group(id=1, name="new", filters={"1": "f"}))
    assert await directory.origin(1, 1) == "old:f"
    now[0] += FRESH + 1.0
    assert await directory.origin(1, 1) == "new:f"


async def test_a_failure_is_not_kept(skyportal: SkyPortal, fake: Any) -> None:
    directory = Directory(skyportal)
    fake.fail(Fault(status=503, times=1))
    with pytest.raises(TryAgain):
        await directory.instrument_id("ZTF")
    assert await directory.instrument_id("ZTF") == 1


async def test_what_is_missing_is_looked_up_again(skyportal: SkyPortal, fake: Any) -> None:
    now = [0.0]
    directory = Directory(skyportal, clock=lambda: now[0])
    for times in (1, 1, 2):
        with pytest.raises(NotYet, match="instrument Hubble"):
            await directory.instrument_id("Hubble")
        with pytest.raises(NotYet, match="stream HST"):
            await directory.stream_id("HST")
        assert fake.memory.calls == {"GET /api/instrument": times, "GET /api/streams": times}
        now[0] += 0.6 * MISSING


async def test_a_filter_that_is_gone(skyportal: SkyPortal, fake: Any) -> None:
    fake.memory.add_group(shapes.Group(id=1, name="g", filters={}))
    with pytest.raises(Refused, match="group 1 has no filter 1"):
        await Directory(skyportal).origin(1, 1)
