from __future__ import annotations

from itertools import pairwise

import pytest

from kowalski.courier.breaker import Breaker, backoff


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(1.0, 60.0, patience=3, clock=clock)


def test_backoff_doubles_up_to_its_limit() -> None:
    full = [backoff(attempt, 1.0, 60.0, lambda: 1.0) for attempt in range(1, 9)]
    assert full == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert backoff(3, 1.0, 60.0, lambda: 0.0) == 2.0
    assert backoff(10_000, 1.0, 60.0) <= 60.0


def test_an_outage_stops_calls_at_once(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(away=True, pause=None)
    assert 0.5 <= breaker.pause <= 1.0
    clock.now += 1.0
    assert breaker.pause == 0.0
    assert breaker.is_trying
    breaker.succeeded()
    assert not breaker.is_trying


def test_calls_on_their_way_do_not_lengthen_the_pause(breaker: Breaker) -> None:
    for _ in range(20):
        breaker.failed(away=True, pause=None)
    assert breaker.pause <= 1.0


def test_pauses_grow_while_nothing_succeeds(breaker: Breaker, clock: Clock) -> None:
    pauses = []
    for _ in range(5):
        breaker.failed(away=True, pause=None)
        pauses.append(breaker.pause)
        clock.now += breaker.pause
    assert all(later > earlier for earlier, later in pairwise(pauses[::2]))


def test_one_bad_document_is_not_an_outage(breaker: Breaker) -> None:
    for _ in range(2):
        breaker.failed(away=False, pause=None)
    assert breaker.pause == 0.0
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(away=False, pause=None)
    assert breaker.pause == 0.0
    breaker.failed(away=False, pause=None)
    assert breaker.pause > 0.0


def test_skyportal_may_ask_for_longer(breaker: Breaker) -> None:
    breaker.failed(away=True, pause=30.0)
    assert breaker.pause == 30.0
