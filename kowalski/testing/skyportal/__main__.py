"""Run the fake SkyPortal in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiohttp import web

from kowalski.testing.skyportal.app import build


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m kowalski.testing.skyportal", description="A fake SkyPortal.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--token", help="refuse calls without this token")
    parser.add_argument("--state", type=Path, help="file in which it remembers across restarts")
    given = parser.parse_args()
    web.run_app(build(given.state, token=given.token), host=given.host, port=given.port, print=None)


if __name__ == "__main__":
    main()
