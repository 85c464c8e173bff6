"""Offsets are committed only up to the first message whose batch is not finished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kowalski.broker.ledger import Ledger
from kowalski.broker.spool import Span


def span(first: int, last: int, partition: int = 0) -> Span:
    return Span("t", partition, first, last)


def test_nothing_is_committed_past_an_open_batch() -> None:
    ledger = Ledger()
    ledger.take(1, [span(0, 9)])
    ledger.take(2, [span(10, 19)])
    ledger.finish(2)
    assert ledger.commitable() == {}
    ledger.finish(1)
    assert ledger.commitable() == {("t", 0): 20}
    assert ledger.commitable() == {}


def test_a_forgotten_partition_is_never_committed() -> None:
    ledger = Ledger()
    ledger.take(1, [span(0, 9), span(5, 6, partition=1)])
    ledger.forget([("t", 0)])
    ledger.finish(1)
    assert ledger.commitable() == {("t", 1): 7}


def test_work_from_before_a_partition_came_back_counts_no_more() -> None:
    ledger = Ledger()
    ledger.take(1, [span(0, 9)])
    ledger.forget([("t", 0)])
    ledger.take(2, [span(0, 4)])
    ledger.finish(1)
    assert ledger.commitable() == {}
    ledger.finish(2)
    assert ledger.commitable() == {("t", 0): 5}


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12), st.randoms())
def test_in_any_order_of_finishing(batches: list[list[int]], random: object) -> None:
    """Batches of messages of three partitions: at each moment the offset is that of the first open message."""
    ledger, ends, spans = Ledger(), {0: 0, 1: 0, 2: 0}, {}
    for number, partitions in enumerate(batches):
        spans[number] = [span(ends[p], ends[p] + partitions.count(p) - 1, p) for p in sorted(set(partitions))]
        for p in partitions:
            ends[p] += 1
        ledger.take(number, spans[number])
    committed: dict[tuple[str, int], int] = {}
    open_batches = list(spans)
    random.shuffle(open_batches)  # type: ignore[attr-defined]
    while open_batches:
        ledger.finish(open_batches.pop())
        committed |= ledger.commitable()
        for p, end in ends.items():
            firsts = [s.first for number in open_batches for s in spans[number] if s.partition == p]
            assert committed.get(("t", p), 0) == (min(firsts) if firsts else end)
