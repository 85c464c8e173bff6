"""The operations log: fixed widths, lines that are garbled or not yet whole, and what a repetition does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kowalski.watchers.errors import Malformed, Refused
from kowalski.watchers.operations_log import COLUMNS, OperationsLogWatcher

from .conftest import Remote, status, whole


def line(minute: int, **changes: object) -> str:
    values: dict[str, object] = {
        "utc_start": f"2026-03-01T04:{minute:02d}:00.5", "sun_elevation": -40, "exp": 30.0, "filter": "g",
        "type": "targ", "field": 600 + minute, "pid": 1, "ra": 120.5, "dec": -10.25, "slew": 1.5, "wait": 0.0,
        "fileroot": f"tel_20260301_{minute:06d}_zg_o", "programpi": "Somebody", "qcomment": "all sky",
    }  # fmt: skip
    values |= changes
    return "".join(str(values[name]).ljust(width) for name, width, _ in COLUMNS)


def table(*lines: str, version: str = '"1"'):
    return whole("\n".join(["# utc_start …", *lines, ""]).encode(), version)


def test_lines_become_exposures(remote: Remote, watched) -> None:
    context = watched("ztf_ops", url=f"{remote.url}/log", username="me", password="secret")
    remote.pages["/log"] = table(line(1), line(2, ra=-99.0, dec=-99.0, type="dark"))
    outcome = OperationsLogWatcher(context).once()
    assert outcome.new == 2
    assert remote.asked[0].headers["Authorization"].startswith("Basic ")
    one, dark = context.data.ZTF_ops.find().sort("jd_start")
    assert one["utc_start"].replace(tzinfo=UTC) == datetime(2026, 3, 1, 4, 1, 0, 500_000, UTC)
    assert (one["utc_end"] - one["utc_start"]).total_seconds() == 30.0
    assert one["jd_start"] == pytest.approx(2461100.6673669, abs=1e-6)
    assert (one["field"], one["pid"], one["filter"], one["qcomment"]) == (601, 1, "g", "all sky")
    assert one["coordinates"]["radec_geojson"]["coordinates"] == [-59.5, -10.25]
    assert {"hpx_16", "hpx_14", "hpx_8", "radec_str"} < set(one["coordinates"])
    assert "coordinates" not in dark
    keys = {tuple(index["key"]) for index in context.data.ZTF_ops.list_indexes()}
    assert {
        ("utc_start", "utc_end", "fileroot"),
        ("jd_start", "jd_end", "fileroot"),
        ("jd_start", "pid", "field"),
    } < keys


def test_a_repetition_changes_nothing_and_new_lines_are_added(remote: Remote, watched) -> None:
    context = watched("ztf_ops", url=f"{remote.url}/log")
    remote.pages["/log"] = table(line(1), line(3))
    watcher = OperationsLogWatcher(context)
    assert watcher.once().new == 2
    before = list(context.data.ZTF_ops.find())
    assert watcher.once().summary == "nothing has changed"  # the server was asked for changes only
    remote.pages["/log"] = table(line(1), line(3), version='"2"')
    assert watcher.once().new == 0
    assert list(context.data.ZTF_ops.find()) == before
    remote.pages["/log"] = table(line(1), line(2), line(3, qcomment="corrected"), line(4), version='"3"')
    assert watcher.once().new == 3  # late, corrected, new
    assert context.data.ZTF_ops.count_documents({}) == 4


def test_what_cannot_be_read_is_told_and_holds_up_nothing(remote: Remote, watched) -> None:
    context = watched("ztf_ops", url=f"{remote.url}/log")
    unfinished = line(9)[:60]
    bad = [line(5, exp="soon"), line(6)[:40], line(7, utc_start="yesterday")]
    remote.pages["/log"] = whole("\n".join([line(1), *bad, line(8), unfinished]).encode())
    outcome = OperationsLogWatcher(context).once()
    assert outcome.new == 2
    assert list(outcome.rejected) == ["line 2", "line 3", "line 4"]
    assert "'soon' is no exp" in outcome.rejected["line 2"]
    remote.pages["/log"] = whole("\n".join([line(1), *bad, line(8), line(9), ""]).encode(), '"2"')
    assert OperationsLogWatcher(context).once().new == 1


def test_something_else_is_no_log(remote: Remote, watched) -> None:
    context = watched("ztf_ops", url=f"{remote.url}/log")
    remote.pages["/log"] = b"<html>\n<body>Maintenance</body>\n</html>\n"
    with pytest.raises(Malformed, match="no operations log"):
        OperationsLogWatcher(context).once()
    remote.says_first("/log", status(401))
    with pytest.raises(Refused, match="credentials"):
        OperationsLogWatcher(context).once()
    assert context.memory.load() == {}
