"""What makes clocks jump, and leads connections through proxies: a small library that is loaded into each process.

Clients of MongoDB and Kafka connect to the address that the server itself names, so no setting brings a proxy in
between; and nothing may change the clock of the machine. Both happen in `shim.c`, which needs a C compiler.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
EVERYBODY = "all"


class Shim:
    """The library, and the files with which it is told what to do.

    Parameters
    ----------
    folder
        A new folder for them.

    Raises
    ------
    FileNotFoundError
        If there is no C compiler.
    subprocess.CalledProcessError
        If it can't compile the library.
    """

    def __init__(self, folder: Path) -> None:
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            raise FileNotFoundError("there is no C compiler (cc, gcc or clang)")
        self._clocks = folder / "clocks"
        self._clocks.mkdir(parents=True)
        (self._clocks / EVERYBODY).write_bytes(bytes(8))
        self._library = folder / "shim.so"
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, capture_output=True, check=True)

    def environment(self, ways: Mapping[int, int]) -> dict[str, str]:
        """Give the variables of processes that it is loaded into; ``ways``: port -> proxy that stands before it."""
        led = " ".join(f"{port}={proxy}" for port, proxy in ways.items())
        return {"LD_PRELOAD": str(self._library), "FAULTS_CLOCKS": str(self._clocks), "FAULTS_WAYS": led}

    def set_clock(self, process: int | None, seconds: int) -> None:
        """Let the clock of a process, or for None those of all, be ``seconds`` ahead of the machine's."""
        name = EVERYBODY if process is None else str(process)
        with (self._clocks / name).open("r+b") as file:  # it is mapped: it must not be replaced
            file.write(struct.pack("=q", seconds))

    def has_clock(self, process: int) -> bool:
        """Whether the library is loaded into a process."""
        return (self._clocks / str(process)).is_file()
