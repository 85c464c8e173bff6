#!/usr/bin/env python3
"""Put the alert packets of a folder onto a Kafka topic; the same as ``./kowalski.py stream``.

Options of earlier versions are understood: ``--path_alerts`` may name a folder below ``path.data``, ``--max_alerts``
limits the number of packets, and ``--test`` has no meaning any more because tests start a Kafka of their own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kowalski.broker.stream import StreamError
from kowalski.cli.stream import parse_rate, produce
from kowalski.config import ConfigError, load
from kowalski.runtime.errors import ServiceError


def main() -> int:
    """Read the command line and send the packets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--path", "--path_alerts", required=True, type=Path)
    parser.add_argument("--max", "--max_alerts", type=int)
    parser.add_argument("--rate", type=parse_rate, help="packets per second")
    parser.add_argument("--test", nargs="?", help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        settings = load().settings
        folder = given.path if given.path.is_dir() else settings.path.data / given.path
        produce(settings, given.topic, folder, given.rate, given.max)
    except (ConfigError, ServiceError, StreamError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
