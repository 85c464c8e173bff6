"""Results without a database behind them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from kowalski.api.formats.encoder import Encoder, Meter
from kowalski.config.serving import Queries

T = TypeVar("T")


async def stream(items: Iterable[T]) -> AsyncGenerator[T]:
    for item in items:
        yield item


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    with ThreadPoolExecutor(1) as threads:
        yield Encoder(threads, Meter(Queries()))
