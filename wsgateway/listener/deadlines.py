"""Deadlines without a timer each: one sweep a second visits what is due.

A deadline is a number that its owner moves as it likes; it is looked at when the second comes in
which it was due when last looked at. So a message costs nothing here, and an idle connection one
visit in each idle time-out.
"""

from __future__ import annotations

import math
from typing import Protocol

import structlog

log = structlog.stdlib.get_logger(__name__)


class Watched(Protocol):
    """Something with a deadline.

    Attributes:
        bucket: Where `Deadlines` keeps it; -1 when it does not.
    """

    bucket: int

    def visit(self, now_s: float) -> float | None:
        """Act if the deadline has passed.

        Returns:
            When to visit next (monotonic seconds), or None for never again.
        """
        ...


class Deadlines:
    """A wheel of one-second buckets."""

    def __init__(self, now_s: float) -> None:
        self._buckets: dict[int, set[Watched]] = {}
        self._swept = math.floor(now_s)

    def watch(self, watched: Watched, at_s: float) -> None:
        """Visit at the first full second from this instant on, and no later than asked before."""
        bucket = max(math.ceil(at_s), self._swept + 1)
        if watched.bucket != -1:
            if watched.bucket <= bucket:
                return
            self.forget(watched)
        watched.bucket = bucket
        self._buckets.setdefault(bucket, set()).add(watched)

    def forget(self, watched: Watched) -> None:
        """Stop watching; it need not be watched."""
        if watched.bucket == -1:
            return
        bucket = self._buckets[watched.bucket]
        bucket.discard(watched)
        if not bucket:
            del self._buckets[watched.bucket]
        watched.bucket = -1

    def sweep(self, now_s: float) -> None:
        """Visit all that is due, each once."""
        first, self._swept = self._swept + 1, max(self._swept, math.floor(now_s))
        for second in range(first, self._swept + 1):
            bucket = self._buckets.get(second)
            # Emptied one by one: a visit may forget another one of its second.
            while bucket:
                self._visit(bucket.pop(), now_s)
            self._buckets.pop(second, None)

    def _visit(self, watched: Watched, now_s: float) -> None:
        watched.bucket = -1
        try:
            next_at_s = watched.visit(now_s)
        except Exception:
            # The deadlines of all others must not die of one.
            log.exception("visit failed", watched=type(watched).__name__)
            return
        if next_at_s is not None:
            self.watch(watched, next_at_s)

    def __len__(self) -> int:
        """The number of things watched."""
        return sum(map(len, self._buckets.values()))
