#!/usr/bin/env python3
"""Resolve ``requirements/*.in`` into hashed, host-free lock files.

All groups are resolved together first, so that ``models`` and ``test`` can be installed on top of ``core``
without changing it; then each group is written on its own. Versions that are locked stay as long as they fit;
``--upgrade`` takes the newest. Needs ``uv`` (``pip install uv``).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
GROUPS = ("core", "models", "test")
OPTIONS = ("--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-annotate", "--no-header", "--quiet")


def compile_lock(sources: list[Path], target: Path, *extra: str) -> None:
    """Run ``uv pip compile`` over ``sources`` into ``target``."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, *extra, *map(str, sources), "-o", str(target)]
    subprocess.run(command, check=True)


def locked() -> set[str]:
    """Read which versions the lock files name."""
    texts = [(REQUIREMENTS / f"{group}.txt").read_text() for group in GROUPS]
    return {f"{line}\n" for text in texts for line in re.findall(r"^([A-Za-z0-9][^ \\]*==[^ \\]+)", text, re.M)}


def main() -> None:
    """Write ``core.txt``, ``models.txt`` and ``test.txt``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit together")
    upgrade = parser.parse_args().upgrade
    sources = [REQUIREMENTS / f"{group}.in" for group in GROUPS]
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        if not upgrade:
            everything.write_text("".join(sorted(locked())))  # uv prefers what its target names
        compile_lock(sources, everything)
        for source in sources:
            compile_lock([source], source.with_suffix(".txt"), "--generate-hashes", "-c", str(everything))


if __name__ == "__main__":
    main()
