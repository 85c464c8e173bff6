"""Whether one service works, for the health checks of images: ``python -m kowalski.runtime.alive SERVICE``.

Ends with 0 if it does and with 1 if not, and says what its check found.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kowalski import config
from kowalski.runtime.services import services

USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Check the service that is named."""
    settings = config.load().settings
    known = {service.name: service for service in services(settings)}
    if len(arguments) != 1 or arguments[0] not in known:
        print(f"which service? one of {', '.join(known)}", file=sys.stderr)
        return USAGE
    health = known[arguments[0]].check(settings, 0.0)
    print(health.detail or ("works" if health.ok else "does not work"))
    return 0 if health.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
