#!/usr/bin/env python3
"""How much faster alerts become Extended JSON than with `bson.json_util.dumps`, in turns on the same documents.

Two ratios: from documents in memory, which is what `json_util.dumps` starts from; and from BSON as the server sends it,
where decoding counts on both sides, which is what an answer of the API costs. Ours is written in parts, as answers are;
all of them are kept, and together they are checked to hold the same documents.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bson
from bson import json_util

from benchmarks import indexes, workload
from kowalski.api import extjson
from kowalski.api.formats import encoder
from kowalski.surveys import get


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="alerts (default: 10000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kowalski-benchmark")
    options = parser.parse_args()
    base = indexes.documents(workload.make_alerts(get("ZTF"), options.cache, min(options.n, 2000)))
    for name, stamps, n in (("no stamps", False, options.n), ("with stamps", True, options.n // 10)):
        kept = [{key: value for key, value in each.items() if stamps or not key.startswith("cutout")} for each in base]
        raws = [bson.encode({**kept[number % len(kept)], "number": number}) for number in range(n)]
        report(f"{n} alerts, {name}", b"".join(raws), options.rounds)


def report(name: str, batch: bytes, rounds: int) -> None:
    """Time each way in turns and print the medians."""
    documents = bson.decode_all(batch, extjson.OPTIONS)
    ways: dict[str, Callable[[], Any]] = {
        "json_util.dumps, documents": lambda: json_util.dumps(documents),
        "encoder.items, documents": lambda: [encoder.items(part) for part in encoder.cut(documents)],
        "decode_all and json_util.dumps": lambda: json_util.dumps(bson.decode_all(batch)),
        "encoder.items, BSON": lambda: [encoder.items(part) for part in encoder.cut(batch)],
    }
    check(ways)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            gc.collect()
            start = time.process_time()
            work()
            found[way].append(time.process_time() - start)
    print(name)
    for way, seconds in found.items():
        print(f"  {way:<32} {1e6 * statistics.median(seconds) / len(documents):7.1f} CPU-us per alert")
    one, other, whole, raw = found.values()
    for what, slow, fast in (("documents", one, other), ("BSON", whole, raw)):
        ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
        print(f"  ratio from {what}: {ratio:.1f}")


def check(ways: dict[str, Callable[[], Any]]) -> None:
    """End with an error unless all ways give texts of the same documents."""
    expected, *others = (work() for work in ways.values())
    for text in others:
        whole = text if isinstance(text, str) else f"[{b','.join(items for items, _ in text).decode()}]"
        if json_util.loads(whole) != json_util.loads(expected):
            raise SystemExit("the texts hold different documents")


if __name__ == "__main__":
    main()
