"""Pairing positions with sources: nothing is missed, nothing comes twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kowalski.science import pairs
from kowalski.science.coordinates import separation

cell = st.integers(0, 12)
# Nine different cells, or eight and a -1 where only eight meet.
neighbourhood = st.permutations(range(10)).map(lambda cells: [cell if cell < 9 else -1 for cell in cells[:9]])
around = st.lists(neighbourhood, max_size=6)


@given(around, st.lists(cell, max_size=12))
def test_pairs_by_cell_are_those_that_share_one(near: list[list[int]], cells: list[int]) -> None:
    found = pairs.by_cell(np.array(near, np.int64).reshape(-1, 9), np.array(cells, np.int64))
    expected = [(i, k) for i, mine in enumerate(near) for k, other in enumerate(cells) if other in mine]
    assert sorted(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected


@given(st.integers(0, 4), st.integers(0, 4))
def test_every_pair_once(left: int, right: int) -> None:
    found = pairs.every(left, right)
    expected = [(i, k) for i in range(left) for k in range(right)]
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected


degrees = st.floats(0.0, 0.01)
positions = st.lists(st.tuples(degrees, degrees), max_size=8)


@given(positions, positions, st.floats(0.0, 60.0))
def test_pairs_within_a_radius_by_position_and_nearest_first(
    left: list[tuple[float, float]], right: list[tuple[float, float]], radius: float
) -> None:
    one, two = np.array(left, float).reshape(-1, 2).T, np.array(right, float).reshape(-1, 2).T
    found, arcsec = pairs.within(pairs.every(len(left), len(right)), radius, (one[0], one[1]), (two[0], two[1]))
    apart = {(i, k): float(separation(*a, *b)) for i, a in enumerate(left) for k, b in enumerate(right)}
    order = list(zip(found.left.tolist(), arcsec.tolist(), found.right.tolist(), strict=True))
    assert sorted((i, k) for i, _, k in order) == [pair for pair, distance in apart.items() if distance <= radius]
    assert order == sorted(order)
    assert all(distance == apart[i, k] for i, distance, k in order)
