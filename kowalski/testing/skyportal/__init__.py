"""A SkyPortal for tests and trials: it checks what it gets, remembers it, and fails on request.

It keeps the rules that clients depend on: a candidate is unique by (object, filter, passed_at), an annotation by
(object, origin), a point by (object, instrument, origin, time, flux), a source by (object, group); comments and
follow-up requests are kept as often as they come, but a request only if its conditions are met. Calls for objects,
groups or allocations that it does not know are refused; groups, filters and allocations of all ids up to 1000 exist.
Run it with ``python -m kowalski.testing.skyportal --port 5000 [--state FILE]``.

Beside SkyPortal's routes it has:

``GET /_fake/state``
    Everything it holds: see `kowalski.testing.skyportal.memory.Memory` and
    `kowalski.testing.skyportal.followups.Followups`.
``POST /_fake/groups``, ``/_fake/allocations``, ``/_fake/objects/{id}``, ``/_fake/followups/{id}``
    What its users would do: make groups and allocations, find out about objects, carry requests out. Bodies: see
    `kowalski.testing.skyportal.shapes`.
``POST /_fake/faults``
    ``{"rules": [{...}]}`` replaces the ways in which it fails: see `kowalski.testing.skyportal.faults.Fault`.
"""

from kowalski.testing.skyportal.app import build
from kowalski.testing.skyportal.faults import Fault
from kowalski.testing.skyportal.memory import Memory

__all__ = ["Fault", "Memory", "build"]
