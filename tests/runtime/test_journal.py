"""Logs read from their end, by time, and on while they grow and supervisord rotates them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from supervisor.loggers import RotatingFileHandler

from kowalski.runtime import journal, stamps
from kowalski.runtime.journal import Entry, Follower, Log

NIGHT = datetime(2026, 11, 27, 7, 8, 56, tzinfo=UTC)
OURS = "2026-11-27T07:08:56Z"
LOCAL = f"{NIGHT.astimezone():%Y-%m-%d %H:%M:%S},500"
HALF = NIGHT + timedelta(seconds=0.5)


@pytest.mark.parametrize(
    ("line", "moment", "level", "message"),
    [
        (f"{OURS} WARNING kowalski.broker: slow", NIGHT, logging.WARNING, "kowalski.broker: slow"),
        ('{"time": "2026-11-27T07:08:56.500Z", "level": "INFO", "message": "a"}', HALF, logging.INFO, "a"),
        ('{"t":{"$date":"2026-11-27T07:08:56.500+00:00"},"s":"F", "msg":"a"}', HALF, logging.CRITICAL, "a"),
        ('{"t":{"$date":"2026-11-27T08:08:56.500+01:00"},"s":"D2", "msg":"a"}', HALF, logging.DEBUG, "a"),
        ("[2026-11-27 07:08:56 +0000] [17084] [ERROR] no port", NIGHT, logging.ERROR, "no port"),
        (f"[{LOCAL}] WARN [Quorum id=1] on (Quorum)", HALF, logging.WARNING, "[Quorum id=1] on (Quorum)"),
        (f"{LOCAL} - distributed.core - INFO - a - b", HALF, logging.INFO, "distributed.core - a - b"),
        (f"{LOCAL} CRIT as root", HALF, logging.CRITICAL, "as root"),
        (f"{OURS} nobody tells", NIGHT, None, "nobody tells"),
    ],
    ids=["ours", "json", "mongod", "zone", "gunicorn", "kafka", "dask", "supervisord", "no-level"],
)
def test_everybodys_stamps(line: str, moment: datetime, level: int | None, message: str) -> None:
    stamp = stamps.read(line)
    assert stamp is not None
    assert (stamp.time, stamp.level, stamp.message) == (moment, level, message)


@pytest.mark.parametrize(
    "line",
    ["", "  File x", "{", '{"a": 1}', "9999-99-99T99:99:99Z INFO x", '{"t": {}}', '{"a":' * 9999],
    ids=["empty", "trace", "brace", "object", "no-date", "no-time", "deep"],
)
def test_lines_without_a_stamp(line: str) -> None:
    assert stamps.read(line) is None


def test_fields_of_an_object_are_kept() -> None:
    stamp = stamps.read(f'{{"time": "{OURS}", "level": "INFO", "message": "GET / 200", "status": 200, "ms": 1.5}}')
    assert stamp is not None
    assert stamp.fields == {"status": 200, "ms": 1.5}


def always(entry: Entry) -> bool:
    return True


def texts(path: Path, most: int | None, since: datetime | None = None) -> list[str]:
    with Log(path) as log:
        return [entry.text for entry in journal.merged([log], always, most, since)]


ENTRIES = st.lists(
    st.tuples(st.text("ab{é", max_size=9), st.lists(st.text(" ab", max_size=5), max_size=2)), min_size=1, max_size=8
).map(
    lambda found: [
        "\n".join([f"{NIGHT + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ} INFO {head}", *more])
        for n, (head, more) in enumerate(found)
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    entries=ENTRIES,
    finished=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=3),
    block=st.integers(1, 50),
    most=st.integers(0, 9),
)
@example(entries=[f"{OURS} INFO a"], finished=False, cuts=[1, 1], block=1, most=1)
def test_the_last_of_a_log_in_pieces(
    entries: list[str], finished: bool, cuts: list[int], block: int, most: int
) -> None:
    """Files are cut anywhere, within characters, too; the last line may not be finished."""
    whole = ("\n".join(entries) + "\n" * (finished or entries[-1].endswith("\n"))).encode()
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "BLOCK", block)
        path = Path(folder) / "api.log"
        for number, (start, end) in enumerate(pairwise(places)):
            age = len(places) - 2 - number
            path.with_name(f"api.log.{age}" if age else "api.log").write_bytes(whole[start:end])
        assert texts(path, most) == entries[len(entries) - min(most, len(entries)) :]
        later = NIGHT + timedelta(seconds=2)
        with Log(path) as log:
            found = journal.merged([log], lambda entry: entry.time >= later, None, later)
            assert [entry.text for entry in found] == entries[2:]


def test_lines_that_no_stamp_precedes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(f"one\ntwo\n{OURS} INFO three\nand more\n")
    with Log(path) as log:
        found = list(journal.merged([log], always, None, None))
    assert [entry.text for entry in found] == ["one", "two", f"{OURS} INFO three\nand more"]
    assert [entry.level for entry in found] == [None, None, logging.INFO]
    assert {entry.time for entry in found} == {NIGHT}
    path.write_text("no stamp at all\n")
    with Log(path) as log:
        (only,) = journal.merged([log], always, 5, None)
        assert only.time == log.changed


def test_several_logs_by_time(tmp_path: Path) -> None:
    for name, seconds in (("a", (0, 3)), ("b", (1, 2)), ("c", ())):
        lines = [f"{NIGHT + timedelta(seconds=s):%Y-%m-%dT%H:%M:%SZ} INFO {name}{s}\n" for s in seconds]
        (tmp_path / f"{name}.log").write_text("".join(lines))
    logs = [Log(path) for path in journal.find(tmp_path)]
    assert [entry.message for entry in journal.merged(logs, always, None, None)] == ["a0", "b1", "b2", "a3"]
    for log in logs:
        log.__exit__()


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[RotatingFileHandler]:
    """Writes as supervisord does."""
    handler = rotating(tmp_path / "api.log")
    yield handler
    handler.close()


def rotating(path: Path) -> RotatingFileHandler:
    return RotatingFileHandler(str(path), maxBytes=60, backupCount=5)


def write(handler: RotatingFileHandler, data: bytes) -> None:
    handler.stream.write(data)
    handler.stream.flush()
    handler.doRollover()


@settings(max_examples=40, deadline=None)
@given(entries=ENTRIES, sizes=st.lists(st.integers(1, 40), min_size=1), polls=st.lists(st.integers(1, 5), min_size=1))
def test_following_over_rotation(entries: list[str], sizes: list[int], polls: list[int]) -> None:
    """Whatever is written in whatever pieces is read once, also when several files were rotated between two looks."""
    data = "".join(f"{entry}\n" for entry in entries).encode()
    found: list[str] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "api.log"
        handler = rotating(path)
        follower = Follower(path, path.open("rb", buffering=0))
        position = written = turn = 0
        while position < len(data):
            size = sizes[turn % len(sizes)]
            write(handler, data[position : position + size])
            position, turn, written = position + size, turn + 1, written + 1
            if written >= polls[turn % len(polls)]:
                written = 0
                found += [entry.text for entry in follower.poll()]
        for _ in range(2):
            found += [entry.text for entry in follower.poll()]
        handler.close()
        follower.close()
    # an entry whose lines were written slowly comes in pieces, in order
    assert "\n".join(found) == "\n".join(entries)
    assert len(found) >= len(entries)


def test_what_was_shown_is_not_followed(tmp_path: Path, handler: RotatingFileHandler) -> None:
    path = tmp_path / "api.log"
    write(handler, f"{OURS} INFO one\n{OURS} INFO t".encode())
    with Log(path, whole_lines=True) as log:
        assert [entry.message for entry in journal.merged([log], always, None, None)] == ["one"]
        follower = log.follow()
    assert follower.poll() == []
    write(handler, f"wo\nTraceback\n{OURS} ERROR three\n".encode())  # which rotates it
    assert path.stat().st_size == 0
    assert [(entry.message, entry.level) for entry in follower.poll()] == [("two\nTraceback", logging.INFO)]
    write(handler, b"late\n")
    assert follower.poll() == []
    assert [(entry.message, entry.level) for entry in follower.poll()] == [("three\nlate", logging.ERROR)]
    follower.close()


def test_an_emptied_log_and_one_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text(f"{OURS} INFO something long\n")
    with Log(path) as log:
        followers = {path: log.follow()}
    path.write_text(f"{OURS} INFO short\n")
    (tmp_path / "broker-ztf.log").write_text(f"{OURS} INFO new\n")
    found = journal.followed(followers, lambda: journal.find(tmp_path))
    assert {next(found).message, next(found).message} == {"short", "new"}
    for follower in followers.values():
        follower.close()
