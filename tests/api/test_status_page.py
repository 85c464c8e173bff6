"""The status page over HTTP: what it tells to whom, how browsers log in, and that nothing in it is taken for HTML."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from lxml import html
from PIL import Image

from kowalski.api.app import create_app
from kowalski.api.handlers.status import COOKIE
from kowalski.archive import activity, filter_statistics, names
from kowalski.archive.activity import Waiting, Work
from kowalski.archive.client import system_database
from kowalski.config import Settings
from kowalski.testing import services

PATH = "/status/"
EVIL = "<script>alert('\"&amp;')</script>"
PUBLIC, USERS, ADMINS = {"surveys", "services"}, {"catalogs"}, {"troubles", "work", "filters"}
PHONE = (390, 1600)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def filled(system: Any) -> None:
    """Some work in this hour and the hours before, filters with what users may call things, and packets refused."""
    now = datetime.now(UTC)
    for hours in range(4):
        waiting = Waiting()
        waiting.add([1.0] * 90 + [30.0] * 10)
        work = Work(packets=100, alerts=1000 * (hours + 1), passes=7, rejected=1, waiting=waiting)
        activity.add(system, "ZTF", work, now - timedelta(hours=hours))
    shown = {"group_id": 3, "catalog": "ZTF_alerts", "active": True, "active_fid": "abcdef"}
    system[names.FILTERS].insert_many(
        [
            {"filter_id": 1, **shown, "fv": []},
            {"filter_id": 2, **shown, "suspended": {"reason": EVIL}, "fv": []},
        ]
    )
    statistics = filter_statistics.Statistics()
    statistics.count((1, "abcdef"), alerts=4000, passes=1000, ms=8000.0)
    statistics.write(system)
    system[names.DEAD_LETTERS].insert_many([{"_id": number, "survey": "ZTF"} for number in range(4321)])


@pytest.fixture(scope="module")
def page(new_archive: Any, run_api: Any, kafka_process: services.Process) -> Iterator[Any]:
    """An API whose archive has something to show."""
    archive = new_archive()
    archive.settings.status.cache_seconds = 600.0
    archive.settings.server.processes = 1
    archive.settings.server.trusted_proxies = ["127.0.0.1"]
    archive.mongo[archive.settings.database.db]["Gaia_EDR3"].insert_many([{"_id": n} for n in range(1234)])
    archive.mongo[archive.settings.database.db][f"catalog{EVIL}"].insert_one({"_id": 1})
    filled(system_database(archive.mongo, archive.settings))
    for api in run_api(archive.settings):
        with api.client() as admin:
            assert admin.post("/api/users", json={"username": "vera", "password": "rubin"}).status_code == 200
        yield api


def sections(text: str) -> set[str]:
    """Names of the page's sections."""
    return {str(each.get("aria-labelledby")) for each in html.fromstring(text).iter("section")}


def words(text: str, section: str) -> str:
    """What a section says, with single spaces."""
    (found,) = html.fromstring(text).xpath(f"//section[@aria-labelledby='{section}']")
    return " ".join(" ".join(found.itertext()).split())


def read(page: Any, *who: str) -> str:
    """Read the page as somebody, or as nobody."""
    headers = {"Authorization": page.token(*who)} if who else {}
    answer = httpx.get(page.url + PATH, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.text


def test_who_sees_what(page: Any) -> None:
    assert sections(read(page)) == PUBLIC
    assert sections(read(page, "vera", "rubin")) == PUBLIC | USERS
    assert sections(read(page, "admin", "admin")) == PUBLIC | USERS | ADMINS
    for who in ((), ("vera", "rubin")):
        text = read(page, *who)
        for secret in ("4,321", "abcdef", str(page.settings.database.port), "Passes", "suspended"):
            assert secret not in text, (who, secret)


def test_what_it_tells(page: Any) -> None:
    text = read(page, "admin", "admin")
    surveys = html.fromstring(text)
    (ztf,) = surveys.xpath("//article[@id='survey-ZTF']")
    facts = {dt.text_content(): dt.getnext().text_content() for dt in ztf.iter("dt")}
    assert facts["Alerts"] == "10,000"
    assert facts["Passes of filters"] == "28"
    assert facts["Refused packets"] == "4"
    assert 0.7 < float(facts["Kafka to done, median"].removesuffix(" s")) < 1.4
    assert 20 < float(facts["Kafka to done, 95 %"].removesuffix(" s")) < 40
    assert facts["Waiting in Kafka"].isdigit()
    hours = [each.text_content() for each in ztf.iter("title")]
    assert len(hours) == page.settings.status.hours
    assert [each.rpartition(": ")[2] for each in hours[-4:]] == [f"{n},000 alerts" for n in (4, 3, 2, 1)]
    heights = [float(bar.get("height")) for bar in ztf.iter("rect")]
    assert heights[-4:] == [120.0, 90.0, 60.0, 30.0]
    assert {*heights[:-4]} == {0.0}
    assert "1 3 ZTF_alerts on 4,000 1,000 25 % 2.00 0" in words(text, "filters")
    assert "Dead letters 4,321" in words(text, "work")
    assert "Gaia_EDR3 1,234" in words(text, "catalogs")
    services_told = words(text, "services")
    assert f"127.0.0.1:{page.settings.database.port}" in services_told
    assert "no answer at tcp://" in services_told  # there is no scheduler


def test_nothing_that_users_wrote_is_html(page: Any) -> None:
    text = read(page, "admin", "admin")
    assert "<script" not in text
    assert EVIL in words(text, "filters")
    assert EVIL in words(text, "catalogs")


def test_everything_is_asked_once_however_many_look(page: Any) -> None:
    found = {re.search(r"As of ([^<]*)\.", read(page)).group(1) for _ in range(10)}  # type: ignore[union-attr]
    assert len(found) == 1


def test_the_page_may_load_nothing(page: Any) -> None:
    answer = httpx.get(page.url + PATH)
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in str(policy)
    assert policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"(src|href)=\"(?!/status/)", answer.text)
    assert " style=" not in answer.text
    assert httpx.get(f"{page.url}/status").headers["Location"] == PATH


def login(page: Any, name: str, password: str, **headers: str) -> httpx.Response:
    form = {"username": name, "password": password}
    return httpx.post(f"{page.url}/status/login", data=form, headers=headers)


def test_browsers_log_in_by_a_form_and_out_again(page: Any) -> None:
    form = html.fromstring(httpx.get(f"{page.url}/status/login").text).forms[0]
    assert (form.method, form.action, set(form.fields)) == ("POST", "/status/login", {"username", "password"})
    answer = login(page, "admin", "admin", Origin=page.url)
    assert (answer.status_code, answer.headers["Location"]) == (303, PATH)
    cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "Strict", PATH, "")
    with httpx.Client(base_url=page.url, cookies={COOKIE: cookie.value}) as browser:
        assert sections(browser.get(PATH).text) == PUBLIC | USERS | ADMINS
        assert browser.get("/").status_code == 401  # the cookie is for this page only
        out = browser.post("/status/logout")
        assert out.status_code == 303
        assert SimpleCookie(out.headers["Set-Cookie"])[COOKIE].value == ""
    behind_tls = login(page, "admin", "admin", **{"X-Forwarded-Proto": "https"})
    assert SimpleCookie(behind_tls.headers["Set-Cookie"])[COOKIE]["secure"] is True


def test_forms_that_are_refused(page: Any) -> None:
    wrong = login(page, EVIL, "no")
    assert wrong.status_code == 401
    assert "Name or password is wrong." in wrong.text
    assert "Set-Cookie" not in wrong.headers
    for origin in ("https://evil.example.org", "null"):
        assert login(page, "admin", "admin", Origin=origin).status_code == 403
    for content in (b"username=admin", b"username=admin&password=" + 5000 * b"x", b"\xff=\x00"):
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert httpx.post(f"{page.url}/status/login", content=content, headers=kind).status_code == 400
    assert httpx.post(f"{page.url}/status/login", json={"username": "admin"}).status_code == 400


def test_a_login_that_has_ended_is_told(page: Any) -> None:
    with page.client() as admin:
        admin.post("/api/users", json={"username": "tycho", "password": "brahe"})
        token = page.token("tycho", "brahe")
        admin.delete("/api/users/tycho")
    for cookie in (token, "nonsense"):
        text = httpx.get(page.url + PATH, cookies={COOKIE: cookie}).text
        assert sections(text) == PUBLIC
        assert "Your login has ended." in text


async def test_an_empty_instance_that_shows_itself_to_its_users_only(archive: Settings, nobody: Any) -> None:
    archive.status.public = False
    archive.surveys["ZTF"].enabled = False
    async with nobody.http.get(PATH) as answer:
        assert html.fromstring(await answer.text()).forms[0].action == "/status/login"
    admin = await nobody.log_in("admin", "admin")
    async with nobody.http.get(PATH, headers={"Authorization": admin.token}) as answer:
        text = await answer.text()
    assert sections(text) == PUBLIC | USERS | ADMINS
    assert "survey-ZTF" not in text
    assert "<svg" not in text  # there is nothing to draw
    (lsst,) = html.fromstring(text).xpath("//article[@id='survey-LSST']")
    facts = {dt.text_content(): dt.getnext().text_content() for dt in lsst.iter("dt")}
    assert facts.keys() == {"Alerts", "Waiting in Kafka"}
    assert facts["Alerts"] == "0"
    assert words(text, "filters") == "Filters None."
    assert words(text, "work").startswith("Dead letters and outbox Dead letters 0 Outbox, pending 0")


async def test_it_is_there_when_the_database_is_not(archive: Settings, servers: services.Servers, admin: Any) -> None:
    assert servers.mongod is not None
    async with TestClient(TestServer(create_app(archive))) as client:
        servers.mongod.kill()
        try:
            async with client.get(PATH, cookies={COOKIE: admin.token}) as answer:
                assert answer.status == 200
                text = await answer.text()
            form = {"username": "admin", "password": "admin"}
            async with client.post("/status/login", data=form) as answer:
                assert answer.status == 503
        finally:
            servers.mongod.start()
    assert sections(text) == PUBLIC
    assert "✗ mongod does not work" in words(text, "services")
    assert "The database is not available" in text


# How it looks


def screenshot(url: str, target: Path, *options: str) -> Image.Image:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={target.parent / 'profile'}", "--window-size={},{}".format(*PHONE), *options]
    environment = {**os.environ, "HOME": str(target.parent)}
    done = subprocess.run([*command, f"--screenshot={target}", url], env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Image.open(target).convert("RGB")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH: nobody has looked at the status page")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_looks_as_it_should_on_a_phone(page: Any, tmp_path: Path, dark: bool) -> None:
    options = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    picture = screenshot(page.url + PATH, tmp_path / "page.png", *options)
    if keep := os.environ.get("KOWALSKI_SCREENSHOTS"):
        picture.save(Path(keep) / f"status-{'dark' if dark else 'light'}.png")
    colours = {colour: count for count, colour in picture.getcolors(picture.width * picture.height) or []}
    paper, bar = ((0x11, 0x14, 0x1A), (0x7A, 0xA2, 0xF7)) if dark else ((0xFF, 0xFF, 0xFF), (0x35, 0x67, 0xC4))
    # The style was let through, and the plot of ZTF is drawn: 2.5 bars of full height.
    assert colours[paper] > 0.1 * picture.width * picture.height
    assert colours[bar] > 1000
    column = [picture.getpixel((picture.width - 3, y)) for y in range(picture.height)]
    assert set(column) == {paper}  # nothing runs out of the screen
