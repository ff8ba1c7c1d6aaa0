from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.fakes import ManualClock
from wsgateway.listener.server import Descriptors, Listener, bind, keep_time

if TYPE_CHECKING:
    from collections.abc import Iterator


# --- binding


def test_port_0_is_the_same_free_port_on_every_address() -> None:
    sockets = bind("localhost", 0)
    try:
        ports = {bound.getsockname()[1] for bound in sockets}
        assert len(ports) == 1
        assert ports != {0}
    finally:
        for bound in sockets:
            bound.close()


def test_a_port_in_use_cannot_be_bound() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        bind("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(OSError, match="assign"):
        bind("192.0.2.1", 0)


# --- descriptors


class FakeListener:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.failure: OSError | None = None
        self.socket = socket.socket()

    def fileno(self) -> int:
        return self.socket.fileno()

    def pause(self) -> None:
        self.told.append("pause")

    async def accept(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append("accept")


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The limits of a process that is not this one."""
    limits = {"now": (256, 256)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    return limits


@pytest.fixture
def listener() -> Iterator[FakeListener]:
    listener = FakeListener()
    yield listener
    listener.socket.close()


@pytest.fixture
def descriptors(limits: dict[str, Any], listener: FakeListener) -> Descriptors:
    listeners: list[Any] = [listener]
    return Descriptors(listeners)


class Holes:
    """Decides which descriptor is the lowest free one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lowest: int | None = 10
        monkeypatch.setattr(os, "dup", self._dup)
        monkeypatch.setattr(os, "close", lambda _: None)

    def _dup(self, _: int) -> int:
        if self.lowest is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.lowest


@pytest.fixture
def holes(monkeypatch: pytest.MonkeyPatch) -> Holes:
    return Holes(monkeypatch)


def test_the_soft_limit_is_raised_to_the_hard_one(limits: dict[str, Any]) -> None:
    limits["now"] = (1024, 20_000)

    assert Descriptors([]).in_use_max == 20_000 - 64
    assert limits["now"] == (20_000, 20_000)


def test_a_hard_limit_that_the_system_refuses_leaves_the_soft_one(
    limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    limits["now"] = (256, 1 << 62)
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert Descriptors([]).in_use_max == 192


def test_half_of_a_small_limit_is_kept(limits: dict[str, Any]) -> None:
    limits["now"] = (64, 64)

    assert Descriptors([]).in_use_max == 32


async def test_accepting_pauses_once_when_the_reserve_is_touched(
    descriptors: Descriptors, listener: FakeListener, holes: Holes
) -> None:
    with capture_logs() as logs:
        for holes.lowest in (191, 192, 193, 194):
            descriptors.accepted()
        # Not inside the accepting itself.
        assert listener.told == []
        await asyncio.sleep(0)

    assert listener.told == ["pause"]
    assert [line["event"] for line in logs] == [
        "accepting is paused: too few file descriptors are free"
    ]
    assert logs[0]["limit"] == 192


async def test_accepting_goes_on_when_enough_are_free(
    descriptors: Descriptors, listener: FakeListener, holes: Holes
) -> None:
    await descriptors.resume()
    holes.lowest = 193
    with capture_logs() as logs:
        descriptors.accepted()
        await asyncio.sleep(0)
        for holes.lowest in (193, 192, 180, 168):
            await descriptors.resume()
        assert listener.told == ["pause"]
        holes.lowest = 167
        await descriptors.resume()
        await descriptors.resume()

    assert listener.told == ["pause", "accept"]
    assert [line["event"] for line in logs][1:] == ["accepting again"]


async def test_without_any_free_descriptor_accepting_is_paused_and_stays_so(
    descriptors: Descriptors, listener: FakeListener, holes: Holes
) -> None:
    holes.lowest = None
    with capture_logs():
        descriptors.accepted()
        await asyncio.sleep(0)
        await descriptors.resume()

    assert listener.told == ["pause"]


async def test_accepting_that_cannot_go_on_is_tried_again(
    descriptors: Descriptors, listener: FakeListener, holes: Holes
) -> None:
    holes.lowest = 193
    with capture_logs():
        descriptors.accepted()
        await asyncio.sleep(0)
        holes.lowest = 10
        listener.failure = OSError(errno.EMFILE, "Too many open files")
        await descriptors.resume()
        listener.failure = None
        await descriptors.resume()

    assert listener.told == ["pause", "pause", "accept"]


# --- accepting


class FullLoop:
    """Cannot serve another socket."""

    def __init__(self) -> None:
        self.refused: list[socket.socket] = []

    async def create_server(self, *_: Any, sock: socket.socket, **__: Any) -> None:
        self.refused.append(sock)
        raise OSError(errno.EMFILE, "Too many open files")


async def test_accepting_that_fails_keeps_no_descriptor() -> None:
    async def app(*_: object) -> None: ...

    loop, limits = FullLoop(), SimpleNamespace(head_timeout_s=1, close_timeout_s=1)
    shared: Any = SimpleNamespace(loop=loop, limits=limits)
    [bound] = bind("127.0.0.1", 0)
    with bound:
        listener = Listener(app, shared, [bound], None)
        listener.servers = []
        with pytest.raises(OSError, match="Too many"):
            await listener.accept()

        [refused] = loop.refused
        assert refused.fileno() == -1
        assert bound.fileno() != -1


# --- time


class FakeShared:
    """What the sweep of a second touches."""

    def __init__(self) -> None:
        self.clock = ManualClock(1633543063000)
        self.date = b""
        self.swept: list[float] = []
        self.deadlines = self

    def sweep(self, now_s: float) -> None:
        self.swept.append(now_s)


async def test_the_first_sweep_is_at_once(descriptors: Descriptors) -> None:
    shared: Any = FakeShared()
    keeping = asyncio.create_task(keep_time(shared, descriptors))
    await asyncio.sleep(0)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping

    assert shared.date == b"Wed, 06 Oct 2021 17:57:43 GMT"
    assert shared.swept == [0.0]
