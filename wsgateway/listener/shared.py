"""What all sockets of a listener share: limits, time, deadlines, tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from wsgateway.errors import ShuttingDown
from wsgateway.listener.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from wsgateway.cluster.hub import Hub
    from wsgateway.contracts import Clock, Dispatch

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """The bounds of sockets; `wsgateway.limits` has the defaults and their sources."""

    head_size_max: int
    header_count_max: int
    head_timeout_s: float
    body_timeout_s: float
    keep_alive_timeout_s: float
    close_timeout_s: float
    message_size_max: int
    frame_size_max: int
    idle_timeout_s: float
    connection_duration_max_s: float
    in_flight_max: int
    waiting_size_max: int
    send_buffer_max: int


class Shared:
    """State of one listener.

    Attributes:
        date: The `Date` of answers, renewed each second.
        draining: Whether new handshakes are turned away.
        websockets_open: WebSockets whose socket is not gone, closing ones included.
        farewells: Sockets whose last answer is written, and whose peer has not left yet.
        on_accept: Called for each accepted socket.
    """

    def __init__(
        self,
        *,
        limits: ListenerLimits,
        dispatch: Dispatch,
        hub: Hub,
        clock: Clock,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.limits = limits
        self.dispatch = dispatch
        self.hub = hub
        self.clock = clock
        self.entropy = entropy
        self.deadlines = Deadlines(clock.monotonic_s())
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.date = b""
        self.draining = False
        self.websockets_open = 0
        self.farewells: set[asyncio.Transport] = set()
        self.on_accept: Callable[[], None] = lambda: None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work that the drain waits for, and at its end cancels."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def refuse_while_draining(self) -> None:
        """Turn a handshake away once the node drains.

        Raises:
            ShuttingDown: It drains.
        """
        if self.draining:
            raise ShuttingDown
