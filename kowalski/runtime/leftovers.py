"""Finding and ending the processes of an instance, also when the supervisor that started them is gone.

Every process of an instance carries the run folder in its environment, which tells it from all others for sure: a
process id noted in a file would be stale after each restart, or belong to someone else by now.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from kowalski.runtime.launch import INSTANCE


def find(run: Path) -> list[psutil.Process]:
    """Find the processes of the instance with run folder ``run``, except the caller and its ancestors."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in mine and process.environ().get(INSTANCE) == str(run):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # ended meanwhile, or of another user and so not ours
    return found


def end(run: Path, patience: float = 15.0) -> list[psutil.Process]:
    """End the processes of the instance with run folder ``run``, the youngest first.

    That is about the order in which a supervisor would do it; all at once, a Dask worker would wait for its scheduler.

    Parameters
    ----------
    run
        The run folder.
    patience
        Seconds that each has to end by itself before it is killed.

    Returns
    -------
    list
        The processes that were ended.
    """
    ended = []
    while processes := find(run):  # what a supervisor started meanwhile is found in the next round
        for process in sorted(processes, key=_born, reverse=True):
            _signal(process, force=False)
            if psutil.wait_procs([process], timeout=patience)[1]:
                _signal(process, force=True)
                psutil.wait_procs([process], timeout=10.0)
        ended += processes
    return ended


def _born(process: psutil.Process) -> float:
    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return 0.0


def listening_ports(run: Path) -> set[int]:
    """TCP ports on which processes of the instance listen."""
    ports: set[int] = set()
    for process in find(run):
        try:
            connections = process.net_connections(kind="tcp")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        ports |= {link.laddr.port for link in connections if link.laddr and link.status == psutil.CONN_LISTEN}
    return ports


def _signal(process: psutil.Process, *, force: bool) -> None:
    try:
        if force:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return  # it was quicker
