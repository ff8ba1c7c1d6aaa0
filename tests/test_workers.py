"""What `--workers` asks of settings and ports."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from wsgateway.errors import OperatorFaults
from wsgateway.settings import load_settings
from wsgateway.workers import reserve_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wsgateway.ports import Ports
    from wsgateway.workers import ReservedPorts

REDIS = "redis://127.0.0.1"


def told(**flags: object) -> list[str]:
    return [str(fault) for fault in load_settings(flags, {}, None)[1]]


def test_one_worker_needs_no_redis() -> None:
    assert told(workers=1) == []
    assert told(workers=4, redis=REDIS) == []


def test_workers_without_redis_are_refused_with_the_reason() -> None:
    assert told(workers=2) == [
        (
            "--workers: 2 workers know nothing of each other's connections without Redis: a post would "
            "be answered 410 by all but one; name a Redis that they share with --redis, or leave "
            "--workers away"
        )
    ]


@pytest.mark.parametrize("workers", [0, -1, 513, "many"])
def test_a_number_that_no_machine_has_is_refused(workers: object) -> None:
    assert len(told(workers=workers, redis=REDIS)) == 1


def test_other_systems_than_linux_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    [fault] = told(workers=2, redis=REDIS)

    assert fault.startswith("--workers: only Linux spreads a port's connections over processes")
    assert told(workers=1) == []


def test_management_ports_count_upwards_and_must_be_free_of_the_main_one() -> None:
    def of(port: int, management_port: int) -> list[str]:
        return told(workers=4, redis=REDIS, port=port, management_port=management_port)

    assert of(8080, 9090) == of(8080, 8081) == of(8080, 8076) == of(8080, 0) == []
    assert of(8080, 8077) == [
        (
            "--management-port: workers have the management ports 8077 to 8080, one is the main port; "
            "choose another"
        )
    ]
    assert of(8080, 65533) == [
        (
            "--management-port: workers have the management ports 65533 to 65536, and 65535 is the "
            "last; go lower"
        )
    ]
    assert len(of(8080, 8080)) == 1


@pytest.fixture
def opened() -> Iterator[list[ReservedPorts | Ports | socket.socket]]:
    found: list[ReservedPorts | Ports | socket.socket] = []
    yield found
    for one in found:
        one.close()


def port_of(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_share_the_main_port_and_nobody_waits_at_one_that_is_dead(
    opened: list[ReservedPorts | Ports | socket.socket],
) -> None:
    settings, _ = load_settings(
        {"port": 0, "management_port": 0, "workers": 2, "redis": REDIS}, {}, None
    )
    reserved = reserve_ports(settings)
    one, two = reserved.of(1), reserved.of(2)
    opened += [reserved, one, two]

    port = port_of(one.public[0])
    assert port_of(two.public[0]) == port
    assert len({port, port_of(one.management[0]), port_of(two.management[0])}) == 3

    # Kept is not served.
    assert is_refused(port)
    for ports in (one, two):
        ports.public[0].listen()
    assert not is_refused(port)
    one.close()
    assert [is_refused(port) for _ in range(20)] == [False] * 20
    two.close()
    assert is_refused(port)
    again = reserved.of(1)
    opened.append(again)
    assert port_of(again.public[0]) == port


def test_a_management_port_that_is_taken_is_told(
    opened: list[ReservedPorts | Ports | socket.socket],
) -> None:
    first = free_port()
    with socket.create_server(("127.0.0.1", first + 1)):
        flags = {"port": 0, "management_port": first, "workers": 2, "redis": REDIS}
        settings, _ = load_settings(flags, {}, None)
        with pytest.raises(OperatorFaults) as raised:
            opened.append(reserve_ports(settings))

    assert f"--management-port: cannot listen on 127.0.0.1:{first + 1}: " in str(raised.value)
