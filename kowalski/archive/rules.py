"""What is to be done with an alert that passed a filter, decided when it passed and carried in its outbox document.

A pass has ``autosave`` (a `Saving`, or null: the object is not saved), ``followup`` (a `Request`, or null) and
``troubles``: block -> why it was left out. A block that can't be carried out never costs the pass itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kowalski.archive.automation import PRIORITY_KEYS

Order = Literal["asc", "desc"]


class Rule(BaseModel):
    """A decision; may be stored by an older version and read by a newer one."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Saving(Rule):
    """Save the object to the filter's group: see `kowalski.archive.automation.Autosave`."""

    comment: str | None = None
    ignore_group_ids: list[int] = []
    saver_id: int | None = None


class Request(Rule):
    """Ask for follow-up.

    Attributes
    ----------
    payload
        What the facility is to do, with the priority and, unless that is an urgency, the dates of validity.
    priority_key
        The key of ``payload`` that holds the priority.
    ends_at
        Until when the request makes sense (UTC); None: for ever.

    The rest: see `kowalski.archive.automation.AutoFollowup` and `kowalski.skyportal.payloads.FollowupPost`.
    """

    allocation_id: int
    payload: dict[str, Any]
    priority_key: str
    priority_order: Order = "asc"
    comment: str | None = None
    target_group_ids: list[int]
    ignore_allocation_ids: list[int] = []
    ignore_source_group_ids: list[int] = []
    not_if_tns_reported: float | None = None
    radius: float = 0.5
    implements_update: bool = True
    ends_at: datetime | None = None

    @property
    def priority(self) -> float:
        """How urgent it is, in the facility's numbers."""
        return float(self.payload[self.priority_key])


def priority_key(payload: Mapping[str, Any]) -> str:
    """Find the key under which a payload has its priority."""
    return next((key for key in PRIORITY_KEYS if key in payload), "priority")
