"""The table of surveys in the documentation says what the code does."""

from __future__ import annotations

from datetime import date

import pytest

from kowalski import surveys
from kowalski.config import PROJECT
from kowalski.surveys import Survey

LINES = (PROJECT / "docs" / "surveys.md").read_text().splitlines()


@pytest.mark.parametrize("survey", surveys.SURVEYS.values(), ids=lambda survey: survey.name)
def test_each_survey_has_a_true_row(survey: Survey) -> None:
    (row,) = [line for line in LINES if line.startswith(f"| `{survey.name}` |")]
    topics, collections, name, bands, seen, stamps = [cell.strip() for cell in row.strip("|").split("|")[1:]]
    assert topics == f"`{survey.topic_of(date(2024, 3, 1))}`".replace("20240301", "YYYYMMDD")
    assert collections == f"`{survey.alerts}`, `{survey.objects}`"
    assert name == f"`{survey.object_id_field}`"
    assert seen == ("all" if survey.program_field is None else "of their programs")
    assert stamps == ", ".join(f"`{field}`" for field in survey.stamp_fields)
    numbered = all(band == str(fid) for fid, band in survey.bands.items())
    told = ", ".join(f"{'none:' if fid is None else fid} {band}" for fid, band in survey.bands.items())
    assert bands == ("the number itself" if numbered else told)
