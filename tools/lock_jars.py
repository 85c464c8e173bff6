"""Write ``kowalski/runtime/kafka_jars.txt``: the jars that the embedded Kafka needs, with size and SHA-256.

Run with the project's Python after a change of `ENDPOINTS`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import jgo

TARGET = Path(__file__).resolve().parents[1] / "kowalski" / "runtime" / "kafka_jars.txt"
ENDPOINTS = (
    "org.apache.kafka:kafka_2.13:4.2.1",
    # What brings Kafka's slf4j messages to log4j; its distribution carries it, its POM doesn't name it.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
HEADER = "# Made by tools/lock_jars.py: group:artifact:version, bytes, SHA-256.\n"


def lines() -> list[str]:
    """Resolve `ENDPOINTS` with all they need and describe each jar."""
    found: dict[tuple[str, str], Any] = {}
    for endpoint in ENDPOINTS:
        for artifact in jgo.resolve(endpoint):
            found.setdefault((artifact.groupId, artifact.artifactId), artifact)
    described = []
    for (group, name), artifact in sorted(found.items()):
        content = artifact.resolve().read_bytes()
        described.append(f"{group}:{name}:{artifact.version} {len(content)} {hashlib.sha256(content).hexdigest()}\n")
    return described


if __name__ == "__main__":
    sys.stdout.write(f"{TARGET.write_text(HEADER + ''.join(lines()))} characters in {TARGET}\n")
