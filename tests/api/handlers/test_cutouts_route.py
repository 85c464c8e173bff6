"""Cutouts over HTTP, of every survey."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from pymongo import MongoClient

from kowalski import surveys
from kowalski.archive.client import data_database
from kowalski.config import Settings
from kowalski.science import cutouts, stamps
from kowalski.science.cutouts import Style
from kowalski.science.thumbnails import oriented
from kowalski.surveys import Survey
from kowalski.surveys.base import Alert
from kowalski.testing import simulator

CUTOUTS = ("science", "template", "difference")


@pytest.fixture
def alerts(archive: Settings, mongo: MongoClient[dict[str, Any]]) -> dict[str, Alert]:
    """An alert of every survey, by the survey's name."""
    made = {}
    for name, survey in surveys.SURVEYS.items():
        alert = survey.shape(next(simulator.packets(1, name)).packet)
        data_database(mongo, archive)[survey.alerts].insert_one({**alert.document, "_id": alert.candid})
        made[name] = alert
    return made


async def get(user: Any, path: str, **headers: str) -> tuple[int, Any, bytes]:
    async with user.http.get(path, headers={"Authorization": user.token, **headers}) as answer:
        return answer.status, answer.headers, await answer.read()


def path_of(survey: Survey, alert: Alert, cutout: str, file_format: str) -> str:
    return f"/api/cutouts/{survey.name.lower()}/{alert.candid}/{cutout}/{file_format}"


async def test_every_cutout_of_every_survey(alerts: dict[str, Alert], admin: Any) -> None:
    assert alerts.keys() == surveys.SURVEYS.keys()
    for name, alert in alerts.items():
        survey = surveys.get(name)
        for cutout in CUTOUTS:
            stamp = getattr(alert.stamps, cutout)
            status, headers, png = await get(admin, path_of(survey, alert, cutout, "png"))
            assert (status, headers["Content-Type"]) == (200, "image/png"), (name, cutout, png)
            assert Image.open(io.BytesIO(png)).size == (168, 168)
            style = Style(stretch="linear" if cutout == "difference" else "log")
            assert png == cutouts.picture(stamp, survey.stamp_orientation, style)
            status, headers, data = await get(admin, path_of(survey, alert, cutout, "fits"))
            assert (status, headers["Content-Type"]) == (200, "image/fits"), (name, cutout)
            assert headers["Content-Disposition"].startswith("Attachment;filename=")
            assert headers["Content-Disposition"].endswith(".fits")
            with fits.open(io.BytesIO(data)) as units:
                image = next(unit.data for unit in units if unit.data is not None)
            expected = oriented(stamps.read(stamp), survey.stamp_orientation)
            assert np.array_equal(image, expected, equal_nan=True), (name, cutout)


async def test_styles_and_the_old_path(alerts: dict[str, Alert], user: Any) -> None:
    survey, alert = surveys.get("ZTF"), alerts["ZTF"]
    path = path_of(survey, alert, "Science", "png")
    plain = (await get(user, path))[2]
    for query, style in (
        ("interval=zscale&stretch=asinh&cmap=viridis", Style("zscale", "asinh", "viridis")),
        ("interval=min_max&stretch=sqrt&cmap=gray", Style("min_max", "sqrt", "gray")),
        ("interval=?&stretch=?&cmap=?&origin=lower", Style()),
    ):
        found = (await get(user, f"{path}?{query}"))[2]
        assert found == cutouts.picture(alert.stamps.science or b"", survey.stamp_orientation, style)
        assert (found == plain) == (style == Style())
    for file_format in ("png", "fits"):
        old = await get(user, f"/lab/ztf-alerts/{alert.candid}/cutout/template/{file_format}?cmap=magma")
        new = await get(user, f"/api/cutouts/ztf/{alert.candid}/template/{file_format}?cmap=magma")
        assert (old[0], old[2]) == (200, new[2])


async def test_what_a_client_has_is_not_sent_again(alerts: dict[str, Alert], user: Any) -> None:
    path = path_of(surveys.get("ZTF"), alerts["ZTF"], "science", "png")
    _, headers, _ = await get(user, path)
    tag = headers["ETag"]
    assert headers["Cache-Control"].startswith("private")
    for known in (tag, f'"other", W/{tag}', "*"):
        status, headers, body = await get(user, path, **{"If-None-Match": known})
        assert (status, headers["ETag"], body) == (304, tag, b"")
    status, headers, _ = await get(user, f"{path}?cmap=gray", **{"If-None-Match": tag})
    assert status == 200
    assert headers["ETag"] != tag
    async with user.http.get(path, headers={"If-None-Match": tag}) as answer:
        assert answer.status == 401


async def test_what_is_refused(
    archive: Settings, mongo: MongoClient[dict[str, Any]], alerts: dict[str, Alert], user: Any, admin: Any
) -> None:
    alert = alerts["ZTF"]
    collection = data_database(mongo, archive)["ZTF_alerts"]
    stamp = alert.document["cutoutScience"]
    collection.insert_one({"_id": 5, "candid": 5, "candidate": {"programid": 2}, "cutoutScience": stamp})
    collection.insert_one({"_id": 6, "candid": 6, "candidate": {"programid": 1}, "cutoutScience": {"stampData": b"?"}})
    for path, status, reason in (
        (f"nowhere/{alert.candid}/science/png", 400, "survey nowhere must be one of [ztf, "),
        ("ztf/1x/science/png", 400, "candid 1x must be an integer"),
        ("ztf/99999999999999999999/science/png", 400, "must be an integer"),
        (f"ztf/{alert.candid}/sky/png", 400, "cutout sky not in [science, template, difference]"),
        (f"ztf/{alert.candid}/science/PNG", 400, "file format PNG not in [fits, png]"),
        ("ztf/4/science/png", 404, "ztf alert 4 not found"),
        ("ztf/5/science/png", 404, "ztf alert 5 not found"),
        ("ztf/6/template/fits", 404, "cutout template not found in ztf alert 6"),
        ("ztf/6/science/png", 400, "can't be read"),
        ("ztf/6/science/fits", 400, "can't be read"),
    ):
        found, answer = await user("GET", f"/api/cutouts/{path}")
        assert (found, answer["status"]) == (status, "error"), (path, answer)
        assert reason in answer["message"]
        assert "Traceback" not in answer["message"]
    assert (await get(admin, "/api/cutouts/ztf/5/science/png"))[0] == 200
