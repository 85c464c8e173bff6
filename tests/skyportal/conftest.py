"""A fake SkyPortal per test, and alerts with all that a delivery needs."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from astropy.io import fits
from pymongo import MongoClient

from kowalski import surveys
from kowalski.archive import curves, names, outbox
from kowalski.archive.client import data_database, system_database
from kowalski.config import Settings
from kowalski.skyportal.client import SkyPortal
from kowalski.testing import services
from kowalski.testing.skyportal import Fault, Memory, shapes
from kowalski.testing.skyportal.app import FakeSkyPortal, application

Document = dict[str, Any]
ZTF = surveys.get("ZTF")


class Running:
    """A fake SkyPortal that can go away and come back on its port."""

    def __init__(self, port: int, journal: Path) -> None:
        self.port, self.journal = port, journal
        self.fake = FakeSkyPortal(journal)
        self._runner: web.AppRunner | None = None

    @property
    def memory(self) -> Memory:
        return self.fake.memory

    @property
    def requests(self) -> list[Document]:
        return list(self.fake.state.followups.requests.values())

    def set_status(self, number: int, status: str, modified: datetime | None = None) -> None:
        """Let something become of a follow-up request."""
        when = (modified or datetime.now(UTC)).replace(tzinfo=None).isoformat()
        self.fake.state.followups.set_status(number, shapes.RequestStatus(status=status), when)

    def fail(self, *rules: Fault) -> None:
        self.fake.faults.rules = list(rules)

    async def start(self) -> None:
        self.fake = FakeSkyPortal(self.journal)
        self._runner = web.AppRunner(application(self.fake, token="secret"), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@pytest.fixture
async def fake(settings: Settings, tmp_path: Path) -> AsyncIterator[Running]:
    """A running fake SkyPortal; ``settings`` point to it."""
    own = settings.skyportal
    own.enabled, own.host, own.token, own.timeout_seconds = True, "127.0.0.1", "secret", 5.0
    (own.port,) = services.free_ports(1)
    own.backoff_seconds, own.backoff_max_seconds, own.settle_seconds = 0.05, 0.2, 1.0
    running = Running(own.port, tmp_path / "skyportal.jsonl")
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def skyportal(settings: Settings, fake: Running) -> AsyncIterator[SkyPortal]:
    client = SkyPortal(settings.skyportal)
    yield client
    await client.aclose()


def stamp(seed: int = 1) -> Document:
    image = np.random.default_rng(seed).normal(100.0, 10.0, (63, 63)).astype(np.float32)
    buffer = io.BytesIO()
    fits.PrimaryHDU(image).writeto(buffer)
    return {"fileName": "stamp.fits.gz", "stampData": gzip.compress(buffer.getvalue(), 1)}


STAMP = stamp()


def candidate(candid: int, jd: float, **changes: Any) -> Document:
    row = {"candid": candid, "pid": candid, "jd": jd, "fid": 1, "programid": 1, "ra": 185.7, "dec": 15.8}
    measured = {"magpsf": 18.5, "sigmapsf": 0.05, "diffmaglim": 20.5, "isdiffpos": "t", "drb": 0.97, "rb": 0.9}
    return row | measured | {"jdstarthist": jd - 3, "ndethist": 2, "ncovhist": 9} | changes


def packet(candid: int, object_id: str = "ZTF20aaelulu", jd: float = 2459000.5, **changes: Any) -> Document:
    return {
        "candid": candid,
        "objectId": object_id,
        "candidate": candidate(candid, jd, **changes),
        "prv_candidates": [],
        **dict.fromkeys(ZTF.stamp_fields, STAMP),
    }


def a_pass(filter_id: int = 1, group_id: int = 1, **changes: Any) -> Document:
    return {
        "group_id": group_id,
        "filter_id": filter_id,
        "fid": "abc123",
        "permissions": [1],
        "update_annotations": False,
        "outlets": None,
        "annotations": {"age": 3.5},
        "autosave": None,
        "followup": None,
        "troubles": {},
    } | changes


class Archive:
    """Makes alerts and puts them into the databases as the broker does."""

    candidate = staticmethod(candidate)
    packet = staticmethod(packet)
    a_pass = staticmethod(a_pass)

    def __init__(self, mongo: MongoClient[Document], settings: Settings) -> None:
        self.data, self.system = data_database(mongo, settings), system_database(mongo, settings)
        self.outbox = self.system[names.OUTBOX]
        outbox.ensure_indexes(self.system)

    def store(self, packet: Document, histories: dict[str, list[Document]] | None = None) -> None:
        shaped = ZTF.shape(packet)
        self.data[ZTF.alerts].insert_one({"_id": shaped.candid} | shaped.document)
        rows = {"prv_candidates": [], "fp_hists": []} | (histories or {})
        self.data[ZTF.objects].update_one({"_id": shaped.object_id}, {"$setOnInsert": rows}, upsert=True)

    def hand_over(self, packet: Document, *passes: Document, now: datetime | None = None) -> None:
        self._put(packet, passes or (a_pass(),), now)

    def hand_over_to_kafka(self, packet: Document, *passes: Document) -> None:
        """Hand over to the other outlet, too."""
        self.hand_over(packet, *passes)
        self._put(packet, passes or (a_pass(),), None, names.OUTBOX_KAFKA)

    def hand_over_photometry(self, packet: Document) -> None:
        """Hand over an alert that has passed no filter."""
        self._put(packet, (), None)

    def _put(
        self, packet: Document, passes: tuple[Document, ...], now: datetime | None, box: str = names.OUTBOX
    ) -> None:
        alert = ZTF.shape(packet)
        self.system[box].bulk_write(
            [
                outbox.upsert(
                    "ZTF",
                    alert,
                    passes,
                    photometry=curves.collect(self.data, ZTF, [alert])[alert.candid].document(),
                    kafka_timestamp=0,
                    now=now or datetime.now(UTC),
                    deliver=True,
                    keep_days=30,
                )
            ]
        )

    def both(self, packet: Document, *passes: Document) -> None:
        """Store an alert and hand it over."""
        self.store(packet)
        self.hand_over(packet, *passes)

    def states(self) -> dict[int, str]:
        return {each["_id"]["candid"]: each["state"] for each in self.outbox.find()}

    def all_are(self, *states: str) -> Callable[[], bool]:
        return lambda: set(self.states().values()) <= set(states)


@pytest.fixture
def archive(mongo: MongoClient[Document], settings: Settings) -> Archive:
    return Archive(mongo, settings)
