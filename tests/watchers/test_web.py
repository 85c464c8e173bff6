"""The polite client: pace, pauses that servers ask for, back-off, and its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from kowalski.config.watchers import Tns, Watchers
from kowalski.watchers.errors import Refused, Unavailable
from kowalski.watchers.web import Web

from .conftest import Remote, broken_off, status

COMMON = Watchers(attempts=4, backoff_seconds=2.0, backoff_max_seconds=100.0)


@pytest.fixture
def web(waits: list[float]):
    with Web(COMMON, Tns(requests_per_minute=None), waits.append) as client:
        yield client


def test_a_pause_that_is_asked_for_is_made(remote: Remote, web: Web, waits: list[float]) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    remote.pages["/a"] = b"fine"
    remote.says_first(
        "/a",
        status(429, Retry_After="17"),
        status(503, Retry_After=moment),
        status(429, x_rate_limit_remaining="3", x_rate_limit_reset="9"),
    )
    assert web.get(f"{remote.url}/a").text == "fine"
    assert waits[0] == 17.0
    assert 30.0 < waits[1] <= 60.0
    assert waits[2] == 9.0
    assert web.trouble is None


def test_without_a_word_pauses_grow_and_vary_and_attempts_end(remote: Remote, web: Web, waits: list[float]) -> None:
    remote.says_first("/a", status(500), broken_off(b"x" * 100, 10), status(502), status(504), status(504))
    with pytest.raises(Unavailable, match=r"/a: 504"):
        web.get(f"{remote.url}/a")
    assert len(remote.asked) == COMMON.attempts
    for pause, longest in zip(waits, (2.0, 4.0, 8.0), strict=True):
        assert longest / 2 <= pause <= longest
    assert web.trouble is not None
    assert "504" in web.trouble


def test_a_pause_longer_than_a_pass_should_last_ends_it_and_is_told(
    remote: Remote, web: Web, waits: list[float]
) -> None:
    remote.says_first("/a", status(429, Retry_After="4000"))
    with pytest.raises(Unavailable) as caught:
        web.get(f"{remote.url}/a")
    assert caught.value.pause == 4000.0
    assert waits == []


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410])
def test_what_will_not_change_is_asked_once(remote: Remote, web: Web, number: int) -> None:
    remote.says_first("/a", status(number))
    with pytest.raises(Refused) as caught:
        web.get(f"{remote.url}/a")
    assert caught.value.status == number
    assert len(remote.asked) == 1


def test_a_server_that_is_not_there(waits: list[float]) -> None:
    with Web(COMMON, Tns(), waits.append) as web, pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        web.get("http://127.0.0.1:9/a")


def test_requests_keep_their_pace(remote: Remote, waits: list[float]) -> None:
    remote.pages["/a"] = b""
    with Web(COMMON, Tns(requests_per_minute=2), waits.append) as web:
        for _ in range(3):
            web.get(f"{remote.url}/a")
    # Each turn is half a minute after the one before; as nobody waits here, the distance to it grows.
    assert len(waits) == 2
    assert 25.0 < waits[0] <= 30.0
    assert 55.0 < waits[1] <= 60.0


def test_a_count_that_is_used_up_is_waited_for(remote: Remote, web: Web, waits: list[float]) -> None:
    remote.pages["/a"] = status(200, x_cone_rate_limit_remaining="0", x_cone_rate_limit_reset="42")
    web.get(f"{remote.url}/a")
    web.get(f"{remote.url}/a")
    assert len(waits) == 1
    assert 35.0 < waits[0] <= 42.0
