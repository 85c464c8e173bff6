"""Kowalski's command without the second that Python takes to load it: for scripts that call it dozens of times.

One process has loaded the code and forks for each call. What is called is a small file, `Command.script`, that hands on
its arguments, folder and standard streams, and ends as the command does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kowalski.testing import services

SCRIPT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect({path!r})
    socket.send_fds(there, [json.dumps([{options!r} + sys.argv[1:], os.getcwd()]).encode()], [0, 1, 2])
    answer = there.recv(1)
sys.exit(answer[0] if answer else "the command has ended without a status")
"""


@contextmanager
def command(script: Path, *options: str) -> Iterator[None]:
    """Let the file ``script`` be the command, with ``options`` before whatever it is called with, for a block."""
    path = script.with_suffix(".socket")
    server = services.Process("commands", [sys.executable, "-m", __name__, str(path)], {}, script.with_suffix(".log"))
    server.start()
    try:
        script.write_text(SCRIPT.format(python=sys.executable, path=str(path), options=list(options)))
        script.chmod(0o755)
        while not path.exists():
            server.check()
            time.sleep(0.1)
        yield
    finally:
        server.stop(5)


def serve(path: str) -> None:
    """Fork for each call until the process is ended."""
    import kowalski.archive.client
    import kowalski.cli.main
    import kowalski.dumps.backup
    import kowalski.runtime.status  # noqa: F401 - these are what nearly every command loads

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listener:
        unnamed = f"{path}.new"
        listener.bind(unnamed)
        listener.listen(64)
        os.rename(unnamed, path)  # there once it can be called
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                try:
                    _answer(connection)
                finally:  # never back into this loop, whatever has happened
                    traceback.print_exc()
                    os._exit(255)
            connection.close()


def _answer(connection: socket.socket) -> None:
    from kowalski.cli.main import main

    data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    arguments, folder = json.loads(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    random.seed()
    status = main(arguments)
    for file in (sys.stdout, sys.stderr):
        file.flush()
    connection.send(bytes([status]))
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
