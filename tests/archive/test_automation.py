"""What a filter's blocks mean: defaults, blanks, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kowalski.archive.automation import AutoFollowup, Autosave


def test_autosave_may_be_a_switch_alone() -> None:
    assert Autosave.of(True) == Autosave(active=True)
    assert Autosave.of(False) == Autosave.of(None) == Autosave.of({}) == Autosave()
    assert Autosave.of({"active": True, "saver_id": 3}).saver_id == 3
    with pytest.raises(ValidationError):
        Autosave.of({"active": True, "nonsense": 1})


def test_blank_is_missing() -> None:
    given = {"radius": " ", "validity_days": None, "comment": "", "allocation_id": "12", "payload": {"Urgency": "1"}}
    block = AutoFollowup.model_validate(given)
    assert (block.radius, block.validity_days, block.comment, block.allocation_id) == (0.5, 7, None, 12)
    assert block.model_dump(exclude_unset=True) == {"allocation_id": 12, "payload": {"Urgency": "1"}}
    assert (block.active, block.implements_update, block.priority_order) == (False, True, None)


def test_the_first_priority_counts() -> None:
    assert AutoFollowup.model_validate({"payload": {"urgency": 1, "priority": "high"}}).payload["urgency"] == 1
    for payload in ({"priority": "high"}, {"Urgency": None}, {"urgency": []}):
        with pytest.raises(ValidationError, match="must be a number"):
            AutoFollowup.model_validate({"payload": payload})
