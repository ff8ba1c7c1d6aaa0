"""The drain: connections are closed at a set rate, work in flight ends, nothing waits for ever."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.listener.shared import Shared

_GOING_AWAY = (1001, "Going away")
# How often it pauses while it closes connections, and looks whether it is done.
_POLL_S = 0.05
# What a cancelled handler may take to clean up.
_CANCEL_TIMEOUT_S = 1.0


class Drain:
    """Ends what is open and at work.

    Sockets are accepted meanwhile: who comes for a handshake is told 503 at once, instead of waiting
    for the kernel, and handlers that are still at work can post.

    Args:
        shared: What the listeners share.
        close_rate: Connections closed a second, at most.
        close_jitter: What part of it each pause is longer, at most, so that nodes which stop together
            do not send their clients away, and to each other, in step.
        grace_period_s: Time for work in flight, from the last closed connection on.
        chance: A random number from 0 to 1.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        close_rate: float,
        close_jitter: float,
        grace_period_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._shared = shared
        self._close_rate = close_rate
        self._close_jitter = close_jitter
        self._grace_period_s = grace_period_s
        self._chance = chance
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Wait no more."""
        self._hurry.set()

    async def wait(self, seconds: float) -> None:
        """Let time pass, unless there is none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def run(self) -> int:
        """Close all connections and wait for sockets and work in flight.

        Returns:
            The number of tasks that had to be cancelled.
        """
        shared = self._shared
        shared.draining = True
        await self._leave_all()
        until_s = time.monotonic() + self._grace_period_s
        while shared.tasks or shared.websockets_open:
            if time.monotonic() >= until_s or self._hurry.is_set():
                break
            # Handshakes that were under way when the drain began end here too.
            for connection in shared.hub.snapshot():
                connection.leave()
            await self.wait(_POLL_S)
        for connection in shared.hub.snapshot():
            connection.close(*_GOING_AWAY)
        return await self._cancel_work()

    async def _leave_all(self) -> None:
        """Close at the set rate; connections whose messages are being handled follow later."""
        size = math.ceil(self._close_rate * _POLL_S)
        connections = self._shared.hub.snapshot()
        for start in range(0, len(connections), size):
            if start > 0:
                longer = 1 + self._close_jitter * self._chance()
                await self.wait(longer * size / self._close_rate)
            for connection in connections[start : start + size]:
                connection.leave()

    async def _cancel_work(self) -> int:
        tasks = self._shared.tasks
        cancelled: set[asyncio.Task[None]] = set()
        until_s = time.monotonic() + _CANCEL_TIMEOUT_S
        # The end of one may be the beginning of another: a connection's, of its `$disconnect`.
        while tasks and time.monotonic() < until_s:
            for task in tasks - cancelled:
                task.cancel()
            cancelled |= tasks
            await asyncio.wait(tasks, timeout=_POLL_S)
        return len(cancelled)
