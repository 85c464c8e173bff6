#!/usr/bin/env python3
"""Resolve ``requirements/*.in`` into hashed, host-free lock files.

All groups are resolved together first, so that ``models`` and ``test`` can be installed on top of ``core``
without changing it; then each group is written on its own. Needs ``uv`` (``pip install uv``).
"""

from __future__ import annotations

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


def main() -> None:
    """Write ``core.txt``, ``models.txt`` and ``test.txt``."""
    sources = [REQUIREMENTS / f"{group}.in" for group in GROUPS]
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        compile_lock(sources, everything)
        for source in sources:
            compile_lock([source], source.with_suffix(".txt"), "--generate-hashes", "-c", str(everything))


if __name__ == "__main__":
    main()
