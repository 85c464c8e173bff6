"""Lines of a log: text or JSON, with the id of the request they belong to."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from kowalski.config import Settings
from kowalski.runtime import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("kowalski")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_text_with_the_request_it_belongs_to(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings())
    log = logging.getLogger("kowalski.tests")
    log.info("one")
    token = logs.REQUEST.set("night-17")
    log.warning("two")
    logs.REQUEST.reset(token)
    log.debug("three")
    first, second = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO kowalski.tests: one", first)
    assert second.endswith("WARNING kowalski.tests: two request=night-17")


def test_an_event_with_fields_is_an_object_whatever_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        settings = Settings()
        settings.logging.format = form  # type: ignore[assignment]
        logs.configure(settings)
        logging.getLogger("kowalski.tests").info("a line\nand one", extra={"fields": {"ms": 1.5}})
        (line,) = lines(capsys)
        assert {"level": "INFO", "logger": "kowalski.tests", "message": "a line\nand one", "ms": 1.5}.items() <= (
            json.loads(line).items()
        )


def test_json_keeps_a_trace_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings()
    settings.logging.format = "json"
    logs.configure(settings)
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        logging.getLogger("kowalski.tests").exception("failed")
    (line,) = lines(capsys)
    assert json.loads(line)["exception"].startswith("Traceback")
