"""Rubbish for the decoder: messages that are nearly right, and what must hold whatever is made of them.

``./kowalski.py test --fuzz N`` tries N of them and keeps each that breaks a rule.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Packet
from kowalski.broker.stages.decode import decode
from kowalski.science import stamps
from kowalski.surveys.base import Stamps, Survey
from kowalski.testing import simulator

__all__ = ["Fuzzer", "Tally"]

SLOW_SECONDS = 5.0
"""So much CPU time no message may take: what else the machine does must not count."""
NEIGHBOUR = 2
"""Where the good message stands that must come through beside each bad one."""
HOT = bytes((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF))
"""Bytes at which lengths and counts turn around."""

Change = Callable[[bytes, Random], bytes]


def flip(value: bytes, dice: Random) -> bytes:
    """Change some bytes."""
    changed = bytearray(value)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        changed[dice.randrange(len(changed))] = dice.choice((dice.randrange(256), dice.choice(HOT)))
    return bytes(changed)


def cut(value: bytes, dice: Random) -> bytes:
    """Drop the end."""
    return value[: dice.randrange(len(value))]


def drop(value: bytes, dice: Random) -> bytes:
    """Drop a piece in the middle."""
    start = dice.randrange(len(value))
    return value[:start] + value[start + dice.choice((1, 2, 16, 1000)) :]


def repeat(value: bytes, dice: Random) -> bytes:
    """Write a piece twice."""
    start = dice.randrange(len(value))
    return value[: start + dice.choice((1, 16, 1000))] + value[start:]


def insert(value: bytes, dice: Random) -> bytes:
    """Write something new in between."""
    start = dice.randrange(len(value))
    return value[:start] + dice.randbytes(dice.choice((1, 5, 10, 100))) + value[start:]


def number(value: bytes, dice: Random) -> bytes:
    """Write a number of the greatest length in between: a count, a length or a value that is absurd."""
    start = dice.randrange(len(value))
    return value[:start] + b"\xff" * dice.choice((4, 8, 9)) + b"\x01" + value[start:]


def noise(value: bytes, dice: Random) -> bytes:
    """Make something else altogether that only begins like a message."""
    return value[: dice.choice((0, 1, 4, 5, 40))] + dice.randbytes(dice.choice((0, 1, 10, 300)))


CHANGES: tuple[Change, ...] = (flip, flip, flip, cut, drop, repeat, insert, number, noise)


@dataclass(slots=True)
class Tally:
    """What has come of the messages: how often which outcome, the longest CPU time, and those that break a rule."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    failures: list[tuple[str, bytes]] = field(default_factory=list)


class Fuzzer:
    """Feeds damaged messages of one survey to the decode stage, each in a batch with good ones.

    Changes fall as often into the header and the numbers before the record as into the record, which is much longer.

    Parameters
    ----------
    survey
        Whose messages.
    seed
        Equal seeds try equal messages.
    """

    def __init__(self, survey: Survey, seed: int) -> None:
        self._survey = survey
        self._dice = Random(seed)
        writer = simulator.writer(survey.name)
        self._good = [writer.encode(each.packet) for each in simulator.packets(6, survey.name, seed)]
        self._decoder = Decoder()
        (neighbour,) = decode([Packet("t", 0, 0, 0, self._good[NEIGHBOUR])], survey, self._decoder).works
        self._candid = neighbour.alert.candid
        self._start = _start_of_record(self._good[0])

    def message(self) -> bytes:
        """Damage a message."""
        value, dice = self._dice.choice(self._good), self._dice
        change = dice.choice(CHANGES)
        where = dice.random()
        if where < 0.2:  # the header
            return change(value[: self._start], dice) + value[self._start :]
        if where < 0.3:  # counts, lengths and the first fields
            end = self._start + 64
            return value[: self._start] + change(value[self._start : end], dice) + value[end:]
        return value[: self._start] + change(value[self._start :], dice)

    def run(self, count: int, tally: Tally) -> None:
        """Try ``count`` messages."""
        for _ in range(count):
            self.judge(self.message(), tally)

    def judge(self, value: bytes, tally: Tally) -> None:
        """Try one message, and note what breaks a rule.

        It is refused with a reason or becomes alerts whose stamps can be read or are refused; the good message beside
        it comes through; and none of it takes long.
        """
        tally.tried += 1
        begun = time.process_time()
        try:
            packets = [Packet("t", 0, offset, 0, one) for offset, one in enumerate((value, self._good[NEIGHBOUR]))]
            batch = decode(packets, self._survey, self._decoder)
            read = [_look(work.alert.stamps) for work in batch.works]
        except Exception as error:  # noqa: BLE001 - finding these is what it is for
            tally.failures.append((f"{type(error).__name__}: {error}"[:300], value))
            return
        finally:
            self._decoder.unseen.clear()
            took = time.process_time() - begun
            tally.longest = max(tally.longest, took)
        refused = [one for one in batch.rejected if one.packet.offset == 0]
        tally.outcomes["refused" if refused else "read" if all(read) else "read, without all stamps"] += 1
        if took > SLOW_SECONDS:
            tally.failures.append((f"it took {took:.1f} s of CPU time", value))
        if any(not one.reason for one in refused) or not (refused or batch.works):
            tally.failures.append(("it vanished without a reason", value))
        # Where the damaged one still has that candid, and is first, the two are one alert.
        if not any(work.alert.candid == self._candid for work in batch.works):
            tally.failures.append(("the message beside it did not come through", value))


def _look(images: Stamps) -> bool:
    """Read the stamps of an alert as scoring does; whether all of them are images."""
    complete = True
    for name in ("science", "template", "difference"):
        data = getattr(images, name)
        try:
            complete &= data is not None and stamps.read(data).size > 0
        except stamps.StampError:
            complete = False
    return complete


def _start_of_record(value: bytes) -> int:
    """Find where the header of a container file ends: behind the first sync marker, which also ends the file."""
    return value.index(value[-16:]) + 16
