"""Encoding the documents of one answer: in slices, off the event loop where that pays, up to a ceiling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from kowalski.api import extjson
from kowalski.api.errors import ApiError
from kowalski.api.results import Batch
from kowalski.config.serving import Queries

T = TypeVar("T")

Part = tuple[bytes, Batch]
"""A text and documents that belong together; what the text is for, each format knows."""
Text = tuple[bytes, int]
"""A text, and how many documents are in it."""

SLICE = 1024 * 1024
"""Bytes of BSON that are encoded at a time: so few that memory stays small, and so many that threads pay."""
PART = 256 * 1024
"""Bytes of BSON that are encoded at a time: with more of them the processor's cache is too small."""
PART_DOCUMENTS = 16
"""The same for decoded documents, which take more room."""
DOCUMENT = 2048
"""What a decoded document counts for, in bytes; nobody knows."""
INLINE = 128 * 1024
"""Bytes up to which that is done on the spot: less work than handing it to a thread."""


class CeilingError(ApiError):
    """An answer is larger than this instance gives."""


@dataclass(slots=True)
class Meter:
    """Counts the rows and bytes of one answer."""

    limits: Queries
    rows: int = 0
    bytes: int = 0

    def add(self, rows: int, size: int) -> None:
        """Count a part of the answer.

        Raises
        ------
        CeilingError
            If there is more of it now than allowed.
        """
        self.rows += rows
        self.bytes += size
        if self.rows > self.limits.max_rows:
            raise CeilingError(f"the answer has more than {self.limits.max_rows} documents; use limit and skip")
        if self.bytes > self.limits.max_bytes:
            raise CeilingError(f"the answer is larger than {self.limits.max_bytes} bytes; use a projection or a limit")


@dataclass(frozen=True, slots=True)
class Encoder:
    """What turns documents into text for one answer."""

    threads: ThreadPoolExecutor
    meter: Meter

    async def run(self, work: Callable[[], T], size: int) -> T:
        """Do ``work`` on ``size`` bytes of documents, in a thread unless they are few."""
        return work() if size <= INLINE else await asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def encode(self, parts: AsyncIterator[Part], write: Callable[[list[Part]], Text]) -> AsyncGenerator[bytes]:
        """Encode parts with ``write``, several at a time as long as they are small."""
        some: list[Part] = []
        size = 0
        async for before, batch in parts:
            some.append((before, batch))
            size += len(before) + size_of(batch)
            if size >= SLICE:
                yield await self._encode(some, size, write)
                some, size = [], 0
        if some:
            yield await self._encode(some, size, write)

    async def _encode(self, parts: list[Part], size: int, write: Callable[[list[Part]], Text]) -> bytes:
        text, rows = await self.run(lambda: write(parts), size)
        self.meter.add(rows, len(text))
        return text


def cut(batch: Batch) -> Iterator[Batch]:
    """Cut a batch into parts of whole documents."""
    if isinstance(batch, bytes):
        start = end = 0
        while end < len(batch):
            end += int.from_bytes(batch[end : end + 4], "little")
            if end - start >= PART or end >= len(batch):
                yield batch[start:end]
                start = end
    else:
        for start in range(0, len(batch), PART_DOCUMENTS):
            yield batch[start : start + PART_DOCUMENTS]


def size_of(batch: Batch) -> int:
    """Bytes of a batch; a guess if it is decoded."""
    return len(batch) if isinstance(batch, bytes) else len(batch) * DOCUMENT


def texts(batch: Batch) -> list[bytes]:
    """Encode each document of a batch as relaxed Extended JSON."""
    if isinstance(batch, bytes):
        return extjson.encode(batch)
    return [extjson.dumps(document) for document in batch]


def items(batch: Batch) -> Text:
    """Encode the documents of a batch as items of a list, with commas between."""
    if isinstance(batch, bytes):
        return extjson.encode_items(batch)
    return extjson.dumps(batch)[1:-1], len(batch)
