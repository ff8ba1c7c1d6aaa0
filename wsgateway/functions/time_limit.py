"""A time-out that many calls share: one timer for all, armed for the one that is due first."""

from __future__ import annotations

import asyncio


class TimeLimit:
    """Cancels what takes longer than a fixed time.

    `asyncio.timeout` arms and cancels a timer per call, a fifth of what a message may cost. With one
    duration for all calls the first to start is the first that is due, so a queue will do.

    Args:
        limit_s: Seconds that each call may take.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._running: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> Call:
        """Begin to count the time of the current task."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        call = Call(task, loop.time() + self.limit_s)
        self._running[call] = None
        if self._timer is None:
            self._timer = loop.call_at(call.due_at, self._expire, loop)
        return call

    def end(self, call: Call) -> None:
        """Stop counting; safe after it expired."""
        self._running.pop(call, None)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._running:
            call = next(iter(self._running))
            if call.due_at > now:
                # Calls that ended in time are gone from the queue: the timer moves on to the
                # first that is still running, so it fires at most once in each limit_s.
                self._timer = loop.call_at(call.due_at, self._expire, loop)
                return
            del self._running[call]
            call.expired = True
            call.task.cancel()


class Call:
    """One call under a limit.

    Attributes:
        expired: Whether it was cancelled for taking too long.
    """

    __slots__ = ("due_at", "expired", "task")

    def __init__(self, task: asyncio.Task[object], due_at: float) -> None:
        self.task = task
        self.due_at = due_at
        self.expired = False
