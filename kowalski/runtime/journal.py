"""The logs of services as entries: read from the end, by time, and on as they grow and are rotated.

A log is ``<name>.log`` and what supervisord has rotated away, ``<name>.log.1`` (the latest) and so on. These are read
as one text, since they are cut wherever the size was reached, within a line, too. An entry is a line that has a time
stamp and the lines after it that have none, such as a trace.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Self

from kowalski.runtime import stamps
from kowalski.runtime.stamps import Stamp

BLOCK = 1 << 16
"""Bytes that are read at once."""
DISORDER = timedelta(seconds=10)
"""How far lines of one log may be out of order: its processes write by themselves, and clocks are set."""
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Entry:
    """What a service has written at one moment.

    Attributes
    ----------
    service
        Name of the log.
    time
        When, in UTC; for lines that no stamp precedes the next entry's, or else when the file was last written to.
    level
        As in `logging`; None where nobody tells.
    text
        All lines as they were written.
    message, fields
        The same without time and level, and what a line of JSON has beside these.
    """

    service: str
    time: datetime
    level: int | None
    text: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)


Fits = Callable[[Entry], bool]


def find(folder: Path, name: str | None = None) -> list[Path]:
    """Find the logs of a service (of each of its copies), or all."""
    wanted = re.compile(".*" if name is None else rf"{re.escape(name)}(-\d+)?")
    return sorted(path for path in folder.glob("*.log") if wanted.fullmatch(path.stem))


class Log:
    """The log of one service as it is when this is made.

    Parameters
    ----------
    path
        Its latest file.
    whole_lines
        Whether to leave out a last line that is not finished yet.
    """

    def __init__(self, path: Path, *, whole_lines: bool = False) -> None:
        self.path, self.service = path, path.stem
        self._open = ExitStack()
        self._files = [self._open.enter_context(file) for file in _opened(path)]
        if not self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self.end = sum(self._sizes)
        if whole_lines and self.end and self._bytes(self.end - 1, self.end) != b"\n":
            self.end = next(self._lines())[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def changed(self) -> datetime:
        """When it was last written to, in UTC."""
        return datetime.fromtimestamp(os.fstat(self._files[-1].fileno()).st_mtime, UTC)

    def start(self, fits: Fits, most: int | None, since: datetime | None) -> tuple[int, datetime]:
        """Find where the last entries that fit begin.

        Returns
        -------
        tuple
            Where to read from, and the time of lines there that no stamp precedes.
        """
        place, moment, found = self.end, self.changed, 0
        if most == 0:
            return place, moment
        for offset, entry in self._backwards():
            if since is not None and entry.time < since - DISORDER:
                break
            place, moment = offset, entry.time
            found += fits(entry)
            if found == most:
                break
        return place, moment

    def read(self, start: int, moment: datetime) -> Iterator[Entry]:
        """Read the entries from a place on."""
        assembler = Assembler(self.service, moment)
        for place in range(start, self.end, BLOCK):
            yield from assembler.feed(self._bytes(place, min(place + BLOCK, self.end)))
        yield from assembler.rest()

    def follow(self) -> Follower:
        """Go on where this ends."""
        latest, size = self._files[-1], self._sizes[-1]
        file = os.fdopen(os.dup(latest.fileno()), "rb", buffering=0)
        return Follower(self.path, file, size, self._bytes(self.end, sum(self._sizes)))

    def _bytes(self, start: int, end: int) -> bytes:
        parts, first = [], 0
        for file, size in zip(self._files, self._sizes, strict=True):
            low, high = max(start - first, 0), min(end - first, size)
            if low < high:
                parts.append(os.pread(file.fileno(), high - low, low))
            first += size
        return b"".join(parts)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Read lines, the last first, each with its place."""
        place, begun = self.end, b""
        while place > 0:
            low = max(place - BLOCK, 0)
            begun, *lines = (self._bytes(low, place) + begun).split(b"\n")
            offset = low + len(begun) + sum(1 + len(line) for line in lines)
            for line in reversed(lines):
                offset -= len(line)
                if offset < self.end:  # after the last line's end there is none
                    yield offset, line
                offset -= 1
            place = low
        if self.end:
            yield 0, begun

    def _backwards(self) -> Iterator[tuple[int, Entry]]:
        """Read entries, the last first, each with its place."""
        after: list[tuple[int, str]] = []
        moment = self.changed
        for offset, line in self._lines():
            text = line.decode(errors="replace")
            stamp = stamps.read(text)
            after.append((offset, text))
            if stamp is not None:
                yield offset, _entry(self.service, stamp, [text for _, text in reversed(after)])
                after, moment = [], stamp.time
        for offset, text in after:
            yield offset, _entry(self.service, Stamp(moment, None, text), [text])


class Assembler:
    """Puts pieces of a log together to lines, and lines to entries.

    Parameters
    ----------
    service
        Name of the log.
    moment
        Time of lines that no stamp precedes.
    begun
        Of a line that goes on with what is fed first.
    """

    def __init__(self, service: str, moment: datetime, begun: bytes = b"") -> None:
        self._service = service
        self._begun = begun
        self._stamp = Stamp(moment, None, "")
        self._lines: list[str] = []
        self._stamped = False  # the first of these lines is

    def feed(self, data: bytes) -> Iterator[Entry]:
        """Take a piece and give the entries that it completes; the last is kept for lines that belong to it."""
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            yield from self._take(line.decode(errors="replace"))

    def flush(self) -> Iterator[Entry]:
        """Give the entry that was kept."""
        if self._lines:
            stamp = self._stamp if self._stamped else Stamp(self._stamp.time, self._stamp.level, self._lines[0])
            yield _entry(self._service, stamp, self._lines)
        self._lines, self._stamped = [], False

    def rest(self) -> Iterator[Entry]:
        """Give what is left at the end, an unfinished line, too."""
        if self._begun:
            yield from self.feed(b"\n")
        yield from self.flush()

    def _take(self, line: str) -> Iterator[Entry]:
        stamp = stamps.read(line)
        if stamp is None and self._stamped:
            self._lines.append(line)
            return
        yield from self.flush()
        self._stamp, self._stamped = stamp or self._stamp, stamp is not None
        self._lines = [line]


class Follower:
    """Reads what is written to a log from now on, over its rotation.

    Parameters
    ----------
    path
        The log's latest file.
    file
        The same, opened; it belongs to this.
    position
        Bytes of it that were read.
    begun
        Of a line that goes on there.
    """

    def __init__(self, path: Path, file: BinaryIO, position: int = 0, begun: bytes = b"") -> None:
        self._path, self._file, self._position = path, file, position
        self._assembler = Assembler(path.stem, datetime.now(UTC), begun)

    def poll(self) -> list[Entry]:
        """Read what was added; an entry is given when something follows, or nothing was added since the last time."""
        rotated = self._rotated()  # looked up first: whatever was written before is read from the file that it is in
        data = self._rest()
        if rotated:
            for file in _opened(self._path, self._file):
                self.close()
                self._file, self._position = file, 0
                data += self._rest()
        return list(self._assembler.feed(data) if data else self._assembler.flush())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotated(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:  # just now: the new one comes next
            return False

    def _rest(self) -> bytes:
        number = self._file.fileno()
        if os.fstat(number).st_size < self._position:  # emptied
            self._position = 0
        data = b""
        while block := os.pread(number, BLOCK, self._position):
            data += block
            self._position += len(block)
        return data


def merged(logs: Iterable[Log], fits: Fits, most: int | None, since: datetime | None) -> Iterator[Entry]:
    """Read the last entries that fit of several logs, by time.

    Parameters
    ----------
    logs
        To be read.
    fits
        Whether an entry is wanted.
    most
        How many of each log; None for all.
    since
        What is older needs not be looked at; None for no limit.
    """
    streams = (filter(fits, log.read(*log.start(fits, most, since))) for log in logs)
    return heapq.merge(*streams, key=lambda entry: entry.time)


def followed(followers: dict[Path, Follower], find: Callable[[], Iterable[Path]]) -> Iterator[Entry]:
    """Read what is written to logs from now on, without end; ``find`` names all logs, also those that come later."""
    while True:
        for path in find():
            if path not in followers:
                followers[path] = Follower(path, path.open("rb", buffering=0))
        found = [entry for follower in followers.values() for entry in follower.poll()]
        yield from sorted(found, key=lambda entry: entry.time)
        time.sleep(POLL_S)


def _entry(service: str, stamp: Stamp, lines: list[str]) -> Entry:
    message = "\n".join([stamp.message, *lines[1:]])
    return Entry(service, stamp.time, stamp.level, "\n".join(lines), message, stamp.fields)


def _opened(path: Path, after: BinaryIO | None = None) -> list[BinaryIO]:
    """Open the files of a log, oldest first; only those that came after the one given.

    They are opened from the latest on: what is rotated meanwhile is met again under its next name.
    """
    files: list[BinaryIO] = []
    last = 0
    for number in count():
        try:
            file = (path.with_name(f"{path.name}.{number}") if number else path).open("rb", buffering=0)
        except FileNotFoundError:
            if number > last + 1:
                break
            continue  # it is being rotated: while older ones move on, a number has no file
        last = number
        status = os.fstat(file.fileno())
        if after is not None and os.path.samestat(status, os.fstat(after.fileno())):
            file.close()
            break
        if any(os.path.samestat(status, os.fstat(other.fileno())) for other in files):
            file.close()
            continue
        files.append(file)
    return files[::-1]
