"""Whether the ports that an instance needs are free, before anything is started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Set

import psutil

from kowalski.config import Settings
from kowalski.runtime.errors import ServiceError


def check(settings: Settings, ours: Set[int] = frozenset()) -> None:
    """Make sure that every port of this instance can be listened on.

    Parameters
    ----------
    settings
        Name the ports.
    ours
        Ports on which this instance already listens.

    Raises
    ------
    ServiceError
        For the first port that can't be used; the text names its key and, where the system tells, who holds it.
    """
    for key, port in settings.local_ports.items():
        if port in ours:
            continue
        host = {"server.port": settings.server.host, "dask.scheduler_port": settings.dask.host}.get(key, "127.0.0.1")
        try:
            _bind(host, port)
        except OSError as error:
            raise ServiceError(_sentence(key, host, port, error)) from error


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # as servers do: a port whose last connections are still winding down is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _sentence(key: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} ({key}) is taken{_holder(port)}; end that, or set {key} to a free port"
    if error.errno == errno.EACCES:
        return f"port {port} ({key}) may only be used by root; set {key} to one above 1023"
    host_key = key.partition(".")[0] + ".host"
    return f"{host}:{port} ({host_key}, {key}) can't be listened on: {error.strerror}"


def _holder(port: int) -> str:
    """Who listens on ``port``, as far as the system tells."""
    try:
        for link in psutil.net_connections(kind="tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr and link.laddr.port == port and link.pid:
                return f" by process {link.pid} ({psutil.Process(link.pid).name()})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""
    return ""
