"""A SkyPortal for tests and trials: it checks what it gets, remembers it, and fails on request.

It keeps the rules that clients depend on: a candidate is unique by (object, filter, passed_at), an annotation by
(object, origin), a point by (object, instrument, origin, time, flux); calls for objects it does not know are refused.
Run it with ``python -m kowalski.testing.skyportal --port 5000 [--state FILE]``.

Beside SkyPortal's routes it has:

``GET /_fake/state``
    Everything it holds: see `kowalski.testing.skyportal.memory.Memory`.
``POST /_fake/faults``
    ``{"rules": [{...}]}`` replaces the ways in which it fails: see `kowalski.testing.skyportal.faults.Fault`.
"""

from kowalski.testing.skyportal.app import build
from kowalski.testing.skyportal.faults import Fault
from kowalski.testing.skyportal.memory import Memory

__all__ = ["Fault", "Memory", "build"]
