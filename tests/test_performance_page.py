"""The page about performance shows what was measured: picture and tables are made of a results file, never by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kowalski.config import PROJECT, load

PAGE = PROJECT / "docs" / "performance.md"
SVG = "{http://www.w3.org/2000/svg}"
RESULTS: dict[str, Any] = {
    "date": "2030-01-02",
    "survey": "ZTF",
    "alerts": 1000,
    "processes": {"broker": 0.5, "mongod": 1.5, "workers": 2.0},
    "stages": {"score": {"cpu": 1.0, "wall": 1.25}, "store <&>": {"cpu": 0.25, "wall": 4.0}},
}


def draw(results: Path, docs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/picture.py", str(results), "--docs", str(docs)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "performance.md").write_text(PAGE.read_text())
    return tmp_path


def test_bars_are_as_long_as_their_figures(docs: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    assert draw(results, docs).returncode == 0
    root = ElementTree.parse(docs / "performance.svg").getroot()
    bars = {kind: [float(each.get("width", "0")) for each in root.iter(f"{SVG}rect") if each.get("class") == kind]
            for kind in ("cpu", "wall")}  # fmt: skip
    longest = max(bars["wall"])
    assert [width / longest * 4.0 for width in bars["cpu"]] == pytest.approx([2.0, 1.5, 0.5, 1.0, 0.25], abs=0.01)
    assert [width / longest * 4.0 for width in bars["wall"]] == pytest.approx([1.25, 4.0], abs=0.01)
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "store <&>" in texts
    assert "0.25 (4.00)" in texts
    page = (docs / "performance.md").read_text()
    assert "2030-01-02: 1,000 alerts of ZTF, 4.00 CPU-ms per alert" in page
    assert "| workers | 2.00 | 50% |" in page
    assert page.split("<!--")[0] == PAGE.read_text().split("<!--")[0]


def test_the_page_shows_results_that_were_kept(docs: Path) -> None:
    (day,) = re.findall(r"Measured on (\S+):", PAGE.read_text())
    kept = [path for path in (PROJECT / "benchmarks" / "results").glob("*.json")
            if json.loads(path.read_text()).get("date") == day]  # fmt: skip
    made = []
    for path in kept:
        assert draw(path, docs).returncode == 0
        made.append(((docs / "performance.md").read_text(), (docs / "performance.svg").read_text()))
    assert (PAGE.read_text(), PAGE.with_suffix(".svg").read_text()) in made


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"processes": {}}', '{"date": 1, "processes": {"x": "y"}, "stages": {}}'],
    ids=["empty", "list", "incomplete", "words"],
)
def test_what_are_no_results_is_told_in_a_sentence(docs: Path, tmp_path: Path, content: str) -> None:
    results = tmp_path / "odd.json"
    results.write_text(content)
    done = draw(results, docs)
    assert done.returncode == 1
    assert "is no results file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (docs / "performance.md").read_text() == PAGE.read_text()


def test_settings_that_it_names_are_settings(tmp_path: Path) -> None:
    text = PAGE.read_text()
    variables = dict(re.findall(r'(KOWALSKI_\w+)="?([^"\s]+(?: \w+)?)"?(?=[\s"])', text))
    assert len(variables) == 3
    (tmp_path / "config.yaml").write_text(re.findall(r"```yaml\n(dask:.*?)```", text, flags=re.DOTALL)[0])
    settings = load(tmp_path / "config.yaml", environ=variables).settings
    assert settings.dask.scheduler_address == "tcp://first.example.net:8786"
    assert settings.dask.lifetime == "23 hours"
