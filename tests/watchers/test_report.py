"""The performance report: what brokers, filters and courier have written, as text, page and PDF, and to Slack."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner

from kowalski.archive import activity, dead_letters, filter_statistics, names
from kowalski.archive.activity import Cost, Waiting, Work
from kowalski.cli import report
from kowalski.config import ConfigError
from kowalski.performance import gathering, writing
from kowalski.watchers.errors import Refused, Unavailable
from kowalski.watchers.reporting import ReportWatcher

from .conftest import Remote, status

YESTERDAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def waiting(*seconds: float) -> Waiting:
    found = Waiting()
    found.add(seconds)
    return found


def passed(candid: int, moment: datetime, *filters: int, delivered: float | None = None) -> dict[str, Any]:
    passes = {f"1:{number}": {"group_id": 1, "filter_id": number, "passed_at": moment} for number in filters}
    end = {} if delivered is None else {"delivered_at": moment + timedelta(seconds=delivered)}
    return {"_id": {"survey": "ZTF", "candid": candid}, "created_at": moment, "passes": passes, **end}


def fill(system: Any) -> None:
    """A day with two hours of alerts, passes of three filters and dead letters; more of each before and after it."""
    work = Work(102, 100, 3, 2, waiting(*[1.0] * 100), {"decode": Cost(0.2, 0.1), "store": Cost(1.0, 0.5)})
    for hour in (-1, 3, 5, 24):
        activity.add(system, "ZTF", work, YESTERDAY + timedelta(hours=hour))
    noon, before = YESTERDAY + timedelta(hours=12), YESTERDAY - timedelta(minutes=1)
    system[names.OUTBOX].insert_many(
        [passed(1, noon, 7, 8, delivered=2.0), passed(2, noon, 7), passed(3, before, 7, delivered=9.0)]
    )
    system[names.OUTBOX_KAFKA].insert_many([passed(1, noon, 7), passed(4, noon, 9)])
    statistics = filter_statistics.Statistics()
    statistics.count((7, "abc123"), 100, 2, 50.0)
    statistics.write(system)
    letters = [
        (dead_letters.letter_id("t", 0, number), 0, b"", "decode", "it is <no> packet; $x$") for number in range(3)
    ]
    dead_letters.write(system[names.DEAD_LETTERS], "ZTF", letters)
    system[names.DEAD_LETTERS].update_many({"_id.offset": {"$lt": 2}}, {"$set": {"at": noon}})


@pytest.fixture
def context(watched, remote: Remote):
    made = watched("report", url=f"{remote.url}/api")
    fill(made.system)
    return made


def test_a_day_and_nothing_else_is_told(context) -> None:
    found = gathering.gather(context.system, YESTERDAY.date())
    assert list(found.hours) == ["ZTF"]
    assert [work.alerts for work in found.hours["ZTF"]] == [100 if hour in (3, 5) else 0 for hour in range(24)]
    total = found.total("ZTF")
    assert (total.packets, total.alerts, total.passes, total.rejected) == (204, 200, 6, 4)
    assert total.stages["store"] == Cost(2.0, 1.0)
    assert total.waiting.quantile(0.5) == pytest.approx(1.0, rel=0.35)
    lines = [(line.filter_id, line.group_id, line.passes, line.ms_per_alert) for line in found.filters]
    assert lines == [(7, 1, 2, 0.5), (8, 1, 1, None), (9, 1, 1, None)]
    assert [(line.survey, line.stage, line.number) for line in found.letters] == [("ZTF", "decode", 2)]
    assert {outlet: sum(times.values()) for outlet, times in found.delivery.items()} == {"skyportal": 1}


def test_text_page_and_pdf(context, tmp_path: Path) -> None:
    found = gathering.gather(context.system, YESTERDAY.date())
    text = writing.text_of(found)
    assert re.search(r"^ZTF +204 +200 +6 +4 ", text, re.MULTILINE)
    assert re.search(r"^ZTF, store +10\.000 +5\.000$", text, re.MULTILINE)
    assert re.search(r"^7 +1 +2 +0\.5$", text, re.MULTILINE)
    writing.write(found, tmp_path / "below" / "a.html")
    page = (tmp_path / "below" / "a.html").read_text()
    assert "it is &lt;no&gt; packet" in page
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 4
    for plot in plots:
        ET.fromstring(plot.replace("xlink:", ""))
    assert not re.search(r"(src|href)=.https?:", page)  # it stands alone
    writing.write(found, tmp_path / "below" / "a.pdf")
    pdf = (tmp_path / "below" / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") == 5
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["a.html", "a.pdf"]


def test_a_day_without_anything(context, tmp_path: Path) -> None:
    found = gathering.gather(context.system, date(2001, 1, 1))
    assert "Nothing was done." in writing.text_of(found)
    for name in ("a.html", "a.pdf"):
        writing.write(found, tmp_path / name)
    assert "Nothing was done." in (tmp_path / "a.html").read_text()


def slack(remote: Remote) -> None:
    def answer(**fields: Any):
        return lambda request: web.json_response({"ok": True, **fields})

    remote.pages["/api/files.getUploadURLExternal"] = answer(upload_url=f"{remote.url}/upload", file_id="F1")
    remote.pages["/upload"] = b"OK"
    remote.pages["/api/files.completeUploadExternal"] = answer()


def test_each_day_is_reported_once_to_file_and_to_slack(watched, context, remote: Remote) -> None:
    slack(remote)
    told = watched("report", url=f"{remote.url}/api", slack_token="xoxb-1", slack_channel="C1", format="pdf")
    remote.says_first("/api/files.getUploadURLExternal", status(429, Retry_After="3"))
    assert ReportWatcher(told).once().new == 1
    path = told.settings.path.data / "reports" / f"{YESTERDAY:%Y%m%d}.pdf"
    assert path.read_bytes().startswith(b"%PDF")
    last = remote.asked[-1]
    assert last.path == "/api/files.completeUploadExternal"
    assert last.headers["Authorization"] == "Bearer xoxb-1"
    assert last.form["channel_id"] == "C1"
    assert json.loads(last.form["files"])[0]["id"] == "F1"
    assert "ZTF" in last.form["initial_comment"]
    assert remote.paths().count("/upload") == 1
    asked = len(remote.asked)
    assert ReportWatcher(told).once().new == 0
    assert len(remote.asked) == asked


def test_what_slack_refuses_is_told_and_sent_again(watched, remote: Remote) -> None:
    slack(remote)
    told = watched("report", url=f"{remote.url}/api", slack_token="xoxb-1", slack_channel="C1")
    refusal = {"ok": False, "error": "invalid_auth"}
    remote.says_first("/api/files.getUploadURLExternal", lambda request: web.json_response(refusal))
    with pytest.raises(Refused, match="invalid_auth"):
        ReportWatcher(told).once()
    assert ReportWatcher(told).once().new == 1


def test_an_incoming_webhook(watched, remote: Remote) -> None:
    told = watched("report", slack_webhook=f"{remote.url}/hook")
    remote.pages["/hook"] = b"ok"
    remote.says_first("/hook", *[status(500)] * 5)
    with pytest.raises(Unavailable):
        ReportWatcher(told).once()
    assert ReportWatcher(told).once().new == 1
    assert remote.paths() == ["/hook"] * 6


def test_days_of_an_absence_are_made_up_for(watched) -> None:
    context = watched("report")
    context.memory.save(night=f"{YESTERDAY - timedelta(days=3):%Y-%m-%d}")
    assert ReportWatcher(context).once().new == 3
    context.memory.save(night="2020-01-01")
    assert ReportWatcher(context).once().new == 7


def test_the_command(watched, context, remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = typer.Typer()
    report.register(app)
    app.command("other")(lambda: None)
    settings = watched("report", slack_webhook=None).settings
    monkeypatch.setattr("kowalski.cli.report.settings", lambda: settings)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["report", *arguments])

    out = tmp_path / "night.html"
    done = run("--night", f"{YESTERDAY:%Y%m%d}", "--out", str(out))
    assert done.exit_code == 0
    assert "ZTF, store" in done.output
    assert out.read_text().count("<svg") == 4
    for wrong in (("--night", "soon"), ("--slack",), ("--out", "a.doc")):
        assert isinstance(run(*wrong).exception, ConfigError), wrong
    settings.watchers.report.slack_webhook = f"{remote.url}/hook"
    remote.pages["/hook"] = b"ok"
    assert run("--slack").exit_code == 0
    assert remote.paths() == ["/hook"]
