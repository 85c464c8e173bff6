from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kowalski.config import Settings
from kowalski.runtime import ports
from kowalski.runtime.errors import ServiceError
from kowalski.testing import services


@pytest.fixture
def own() -> Settings:
    numbers = services.free_ports(5)
    values: dict[str, Any] = {
        "server": {"port": numbers[0]},
        "database": {"port": numbers[1]},
        "kafka": {"port": numbers[2], "controller_port": numbers[3]},
        "dask": {"scheduler_port": numbers[4], "dashboard_port": None},
    }
    return Settings.model_validate(values)


@pytest.fixture
def taken(own: Settings) -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", own.kafka.controller_port))
        holder.listen()
        yield own.kafka.controller_port


def test_free_ports_are_fine(own: Settings) -> None:
    ports.check(own)
    ports.check(own)  # looking takes none


def test_a_taken_port_is_told_with_its_key_and_holder(own: Settings, taken: int) -> None:
    with pytest.raises(
        ServiceError, match=rf"^port {taken} \(kafka\.controller_port\) is taken by process {os.getpid()}"
    ):
        ports.check(own)


def test_our_own_port_is_not_taken(own: Settings, taken: int) -> None:
    ports.check(own, {taken})


def test_ports_of_servers_that_others_run_do_not_matter(own: Settings, taken: int) -> None:
    own.kafka.bootstrap.servers = "elsewhere:9092"
    ports.check(own)


def test_a_port_whose_connections_wind_down_is_free(own: Settings) -> None:
    with socket.create_server(("127.0.0.1", own.server.port)) as server:
        client = socket.create_connection(("127.0.0.1", own.server.port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    ports.check(own)


def test_an_address_that_is_not_of_this_machine(own: Settings) -> None:
    own.server.host = "192.0.2.1"
    with pytest.raises(ServiceError, match=r"^192\.0\.2\.1:\d+ \(server\.host, server\.port\) can't be listened on"):
        ports.check(own)


def test_a_host_that_does_not_exist(own: Settings) -> None:
    own.server.host = "no-such-host.invalid"
    with pytest.raises(ServiceError, match=r"server\.host"):
        ports.check(own)
