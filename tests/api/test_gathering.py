"""Requests that come together are answered together: in bounded groups, each with its own answer or error."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from kowalski.api.gathering import Gathering


async def test_who_comes_meanwhile_waits_and_goes_together() -> None:
    gathering: Gathering[str, int, int] = Gathering(3)
    asked, go_on = [], asyncio.Event()

    async def double(keys: Sequence[int]) -> Mapping[int, int]:
        asked.append(list(keys))
        await go_on.wait()
        return {key: 2 * key for key in keys}

    first = asyncio.create_task(gathering.ask("a", 1, double))
    other = asyncio.create_task(gathering.ask("b", 1, double))
    await asyncio.sleep(0)
    later = [asyncio.create_task(gathering.ask("a", key, double)) for key in (2, 3, 2, 4, 5)]
    await asyncio.sleep(0.01)
    assert asked == [[1], [1]]
    later[0].cancel()  # a client that leaves takes nothing from the others
    go_on.set()
    assert await asyncio.gather(first, other, *later[1:]) == [2, 2, 6, 4, 8, 10]
    assert asked == [[1], [1], [2, 3, 4], [5]]


@pytest.mark.parametrize("answer", [{1: 0}, ValueError("no")], ids=["one lacks", "fails"])
async def test_an_error_reaches_all_who_wait_and_ends_nothing(answer: dict[int, int] | ValueError) -> None:
    gathering: Gathering[str, int, int] = Gathering(10)

    async def bad(keys: Sequence[int]) -> Mapping[int, int]:
        if isinstance(answer, ValueError):
            raise answer
        return answer

    async def good(keys: Sequence[int]) -> Mapping[int, int]:
        return dict.fromkeys(keys, 7)

    expected = ValueError if isinstance(answer, ValueError) else KeyError
    failed = await asyncio.gather(*(gathering.ask("a", key, bad) for key in (1, 2)), return_exceptions=True)
    assert {type(error) for error in failed} == {expected}
    assert await gathering.ask("a", 3, good) == 7
