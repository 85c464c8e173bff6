from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_an_outage_is_all_lanes_failing(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(away=True, at_work=2, pause=None)
    assert breaker.pause == 0.0
    breaker.failed(away=True, at_work=2, pause=None)
    assert 0.5 <= breaker.pause <= 1.0
    clock.now += 1.0
    assert breaker.pause == 0.0
    assert breaker.is_trying
    breaker.answered()
    assert not breaker.is_trying


def test_one_lane_is_enough_to_tell_when_there_is_but_one(breaker: Breaker) -> None:
    breaker.failed(away=True, at_work=1, pause=None)
    assert breaker.is_trying


@given(st.lists(st.sampled_from(["lost", "answered"]), max_size=100), st.integers(1, 20))
def test_calls_lost_here_and_there_are_no_outage(ends: list[str], lanes: int) -> None:
    breaker = Breaker(1.0, 60.0, patience=lanes, clock=Clock())
    for end in ends:
        if end == "answered":
            breaker.answered()
        else:
            breaker.failed(away=True, at_work=lanes, pause=None)
    in_a_row = [len(run) for run in "".join(end[0] for end in ends).split("a")]
    assert breaker.is_trying == (in_a_row[-1] >= lanes)


def test_while_it_is_tried_one_failure_is_enough(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed(away=True, at_work=3, pause=None)
    clock.now += 1.0
    breaker.failed(away=True, at_work=3, pause=None)
    assert 1.0 <= breaker.pause <= 2.0


def test_calls_on_their_way_do_not_lengthen_the_pause(breaker: Breaker) -> None:
    for _ in range(20):
        breaker.failed(away=True, at_work=3, pause=None)
    assert breaker.pause <= 1.0


def test_pauses_grow_while_nothing_is_answered(breaker: Breaker, clock: Clock) -> None:
    pauses = []
    for _ in range(5):
        breaker.failed(away=True, at_work=1, pause=None)
        pauses.append(breaker.pause)
        clock.now += breaker.pause
    assert all(later > earlier for earlier, later in pairwise(pauses[::2]))


def test_one_bad_document_is_not_an_outage(breaker: Breaker) -> None:
    for _ in range(2):
        breaker.failed(away=False, at_work=1, pause=None)
    assert breaker.pause == 0.0
    breaker.answered()
    for _ in range(2):
        breaker.failed(away=False, at_work=1, pause=None)
    assert breaker.pause == 0.0
    breaker.failed(away=False, at_work=1, pause=None)
    assert breaker.pause > 0.0


def test_an_outlet_may_ask_for_longer(breaker: Breaker) -> None:
    breaker.failed(away=True, at_work=3, pause=30.0)
    assert breaker.pause == 30.0
    breaker.answered()  # by a call that was on its way
    assert breaker.pause == 30.0
