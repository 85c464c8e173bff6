"""What an instance tells of itself: at one place for Prometheus, with a dashboard and rules that fit, and in `top`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kowalski.config import PROJECT
from kowalski.surveys import get
from kowalski.testing import instance as instances

FOLDER = PROJECT / "deploy" / "monitoring"
SURVEY = get("PGIR")  # its candids follow from the time, so that no other test of the instance has them
N = 10
ADDED = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
PROMETHEUS_OWN = {"up"}


def dashboard() -> dict[str, str]:
    """Title of a panel and number of its query -> expression, for all surveys."""
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$survey", ".*")
        for panel in panels
        for target in panel["targets"]
    }


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selected(expression: str) -> dict[str, set[str]]:
    """Parse an expression of PromQL: metrics that it names -> labels that it chooses them by."""
    found: dict[str, set[str]] = {}

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(each.name for each in node.matchers.matchers)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.fixture(scope="module")
def busy(kowalski: instances.Instance, tmp_path_factory: pytest.TempPathFactory) -> instances.Instance:
    """The instance when it has processed some alerts, and a damaged one."""
    kowalski.wait_until_well()
    folder = tmp_path_factory.mktemp("night")
    night = date(2024, 5, 1)
    options = ("--survey", SURVEY.name.lower(), "--n", str(N), "--seed", "91", "--obsdate", f"{night:%Y%m%d}")
    kowalski.cli("simulate", *options, "--out", str(folder))
    (folder / "damaged.avro").write_bytes(b"Obj\x01 not really")
    kowalski.cli("stream", "--topic", SURVEY.topic_of(night), "--path", str(folder))
    kowalski.wait(lambda: value(kowalski, "kowalski_alerts_total", survey=SURVEY.name) >= N, "no alerts are counted")
    return kowalski


def families(kowalski: instances.Instance) -> dict[str, Metric]:
    answer = httpx.get(f"{kowalski.url}/metrics", timeout=30)
    assert answer.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(kowalski: instances.Instance, name: str, **labels: str) -> float:
    samples = [sample for family in families(kowalski).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_dashboard_and_rules_name_what_a_running_instance_exposes(busy: instances.Instance) -> None:
    found = families(busy)
    exposed = {name + end: family for name, family in found.items() for end in ADDED.get(family.type, ("",))}
    expressions = dashboard() | {rule["alert"]: rule["expr"] for rule in rules()}
    assert len(expressions) > 40
    for where, expression in expressions.items():
        for name, labels in selected(expression).items():
            if name in PROMETHEUS_OWN:
                continue
            assert name in exposed, f"{where}: {name}"
            samples = [sample for sample in exposed[name].samples if sample.name == name]
            assert all(labels <= sample.labels.keys() for sample in samples), f"{where}: {labels}"
    used = {name for expression in expressions.values() for name in selected(expression)}
    ours = {name for name, family in exposed.items() if name.startswith("kowalski_")}
    assert {name.removesuffix("_bucket") for name in ours if name.endswith("_bucket")} <= {
        re.sub("_(bucket|sum|count)$", "", name) for name in used
    }, "each histogram is shown"


def test_rules_say_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert re.fullmatch(r"[0-9]+m", rule.get("for", "1m"))


def test_every_stage_and_queue_is_measured(busy: instances.Instance) -> None:
    found = families(busy)
    stages = {
        sample.labels["stage"]: sample.value
        for sample in found["kowalski_stage_seconds"].samples
        if sample.name.endswith("_sum") and sample.labels["survey"] == SURVEY.name
    }
    expected = {"decode", "recall", "score", "crossmatch", "store", "link", "filter", "handover", "deadletter"}
    assert expected <= {stage for stage, seconds in stages.items() if seconds > 0}
    assert value(busy, "kowalski_stage_cpu_seconds_total", survey=SURVEY.name, stage="decode") > 0
    assert value(busy, "kowalski_batch_packets_sum", survey=SURVEY.name) >= N + 1
    assert value(busy, "kowalski_rejected_packets_total", survey=SURVEY.name) >= 1
    assert value(busy, "kowalski_dead_letters", survey=SURVEY.name) >= 1
    assert value(busy, "kowalski_latency_seconds_count", survey=SURVEY.name) >= 1
    topic = SURVEY.topic_of(date(2024, 5, 1))
    partitions = {
        each.labels["partition"] for each in found["kowalski_lag_messages"].samples if topic in each.labels.values()
    }
    assert len(partitions) == busy.settings.kafka.partitions
    busy.wait(lambda: value(busy, "kowalski_lag_messages", topic=topic) == 0, "offsets are not committed")
    assert value(busy, "kowalski_up") == 2
    services = {each.labels["service"] for each in families(busy)["process_resident_memory_bytes"].samples}
    assert {"courier", f"broker:{SURVEY.name}"} <= services
    assert sum(service.startswith("worker:") for service in services) >= 2


def test_top_tells_once_what_it_shows(busy: instances.Instance) -> None:
    told = json.loads(busy.cli("top", "--json", "--interval", "0.5").stdout)
    surveys = {line["survey"]: line for line in told["surveys"]}
    assert set(surveys) == set(busy.settings.enabled_surveys)
    assert surveys[SURVEY.name]["lag"] == 0
    assert told["dead_letters"] >= 1
    assert told["down"] == []
    assert {"decode", "store"} <= {line["stage"] for line in told["stages"]}
    assert all(line["wall"] >= 0 for line in told["stages"])
    shown = busy.cli("top", "--once", "--interval", "0.5").stdout
    for word in (SURVEY.name, "alerts/s", "p99", "slowest stages", "dearest filters", "outbox:", "dead letters:"):
        assert word in shown


def own_terminal() -> None:
    """Let keys such as Ctrl-C reach a process that has just begun a session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "Ctrl-C"])
def test_top_lives_until_it_is_told_to_end(busy: instances.Instance, key: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kowalski.cli", "--config", str(busy.config), "top", "--interval", "0.5"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "60"}
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=PROJECT, env=environment,
        start_new_session=True, preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        seen, deadline = b"", time.monotonic() + 90
        while b"slowest stages" not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536)
        os.write(ours, key.encode())
        while child.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    child.wait(30)
        assert child.returncode == 0
        assert b"Traceback" not in seen
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(ours)


def test_top_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    from kowalski.testing import services

    services.new_settings(tmp_path / "run")
    done = instances.Instance(tmp_path / "run" / "config.yaml").cli("top", "--once", check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nothing runs here" in done.stderr
