"""What clients ask for with Accept and Accept-Encoding."""

from __future__ import annotations

import pytest

from kowalski.api import negotiation

OFFERED = ("application/json", "application/x-ndjson", "text/csv")


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present; q=0.5", "text/csv"),
        ("text/*, application/json;q=0.9", "text/csv"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("application/*", "application/json"),
        ("application/json;q=0, */*", "application/x-ndjson"),
        ("text/csv;q=0, text/html", "application/json"),
        ("text/csv;q=x", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        (",;,", "application/json"),
    ],
)
def test_media_type(header: str, chosen: str) -> None:
    assert negotiation.media_type(header, OFFERED) == chosen


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", "zstd"),
        ("br", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
    ],
)
def test_coding(header: str, chosen: str | None) -> None:
    assert negotiation.coding(header) == chosen
