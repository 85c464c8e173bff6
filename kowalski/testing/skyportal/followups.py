"""Follow-up requests of the fake SkyPortal: conditions, facilities, and what becomes of a request."""

from __future__ import annotations

import math
from typing import Any

from kowalski.testing.skyportal import shapes
from kowalski.testing.skyportal.memory import IMPLIED, Memory, Record, Rejected

STANDING = ("submitted", "completed")
"""A request whose status contains one of these makes another one a duplicate."""


class Followups:
    """All requests, and the allocations that were made by ``POST /_fake/allocations``."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.requests: dict[int, Record] = {}
        self.allocations: dict[int, shapes.Allocation] = {}

    def add(self, given: shapes.Followup, now: str) -> Record:
        """Take in a request unless one of its conditions is not met."""
        if given.obj_id not in self._memory.positions:
            raise Rejected(f"Error submitting follow-up request: Could not find source with ID {given.obj_id}.")
        reason = self._ignored(given)
        if reason is not None:
            return {"id": None, "ignored": True, "message": f"{reason}, not submitting request."}
        allocation = self._allocation(given.allocation_id)
        missing = [key for key in allocation.needs if key not in given.payload]
        if missing:
            raise Rejected(f"Error submitting follow-up request: {missing[0]!r} is a required property")
        number = len(self.requests) + 1
        self.requests[number] = {
            "id": number,
            "obj_id": given.obj_id,
            "allocation_id": given.allocation_id,
            "payload": given.payload,
            "status": allocation.status,
            "target_groups": [{"id": group, "name": f"group {group}"} for group in given.target_group_ids],
            "created_at": now,
            "modified": now,
            "updates": 0,
        }
        return {"id": number, "request_status": allocation.status}

    def update(self, number: int, given: shapes.FollowupChange, now: str) -> Record:
        """Change the payload of a request."""
        request = self.requests.get(number)
        if request is None:
            raise Rejected(f"Missing FollowUpRequest with id {number}")
        if not self._allocation(request["allocation_id"]).implements_update:
            raise Rejected("Cannot update requests on this instrument.")
        request.update(payload=given.payload, modified=now, updates=request["updates"] + 1)
        return {}

    def set_status(self, number: int, given: shapes.RequestStatus, now: str) -> Record:
        """Let something become of a request."""
        if number not in self.requests:
            raise Rejected(f"Missing FollowUpRequest with id {number}")
        self.requests[number].update(status=given.status, modified=given.modified or now)
        return {}

    def add_allocation(self, given: shapes.Allocation) -> Record:
        """Make or replace an allocation."""
        self.allocations[given.id] = given
        return {"id": given.id}

    def page(self, query: Record) -> Record:
        """Answer ``GET /api/followup_request``: those whose object's name contains ``sourceID``, oldest first."""
        size, number = int(query.get("numPerPage", 100)), int(query.get("pageNumber", 1))
        found = [each for each in self.requests.values() if query.get("sourceID", "") in each["obj_id"]]
        page = found[(number - 1) * size : number * size]
        return {"followup_requests": page, "totalMatches": len(found), "pageNumber": number, "numPerPage": size}

    def _allocation(self, number: int) -> shapes.Allocation:
        made = self.allocations.get(number)
        if made is None:
            if not 0 < number <= IMPLIED:
                raise Rejected(f"Error submitting follow-up request: Could not find allocation with ID {number}.")
            made = shapes.Allocation(id=number)
        return made

    def _ignored(self, given: shapes.Followup) -> str | None:
        """Find the condition that is not met."""
        memory = self._memory
        if not set(given.source_group_ids) <= set(memory.groups_of(given.obj_id)):
            return "There is no source for one or more of the source_group_ids specified as a constraint"
        near = self._near(given.obj_id, given.radius)
        if given.not_if_duplicates and self._has_standing({given.allocation_id, *given.ignore_allocation_ids}, near):
            return "There is already a follow-up request for this source and allocation"
        if any(not set(memory.groups_of(name)).isdisjoint(given.ignore_source_group_ids) for name in near):
            return "There is a source for one or more of the ignore_source_group_ids specified as a constraint"
        known: list[Any] = [memory.facts[name] for name in near if name in memory.facts]
        if given.not_if_classified and any(facts.classified for facts in known):
            return "Source has already been classified"
        if given.not_if_spectra_exist and any(facts.spectra for facts in known):
            return "Source has already been observed spectroscopically"
        if given.not_if_tns_classified and any((facts.tns_name or "").startswith("SN") for facts in known):
            return "Source has already been classified in TNS"
        hours = [facts.tns_reported_hours for facts in known if facts.tns_reported_hours is not None]
        if given.not_if_tns_reported is not None and any(since > given.not_if_tns_reported for since in hours):
            return "A source has already been reported to TNS"
        return None

    def _has_standing(self, allocations: set[int], objects: set[str]) -> bool:
        return any(
            each["allocation_id"] in allocations
            and each["obj_id"] in objects
            and any(word in each["status"].lower() for word in STANDING)
            for each in self.requests.values()
        )

    def _near(self, object_id: str, radius: float) -> set[str]:
        """Find the objects within ``radius`` arcseconds, on a plane: they are near."""
        ra, dec = self._memory.positions[object_id]
        scale = math.cos(math.radians(dec))
        return {
            name
            for name, (other_ra, other_dec) in self._memory.positions.items()
            if 3600.0 * math.hypot((other_ra - ra) * scale, other_dec - dec) <= radius
        }
