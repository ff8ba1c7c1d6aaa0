"""Random bytes from the operating system, fetched many at a time.

A system call for the ids of each request was a tenth of the CPU that a post takes.
"""

from __future__ import annotations

import os

# Enough for some two hundred requests.
_FETCHED = 4096


class _Pool:
    """Random bytes, given in order; none of them twice."""

    __slots__ = ("_bytes", "_used")

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def __call__(self, size: int) -> bytes:
        """Return that many bytes."""
        end = self._used + size
        if end > len(self._bytes):
            self._bytes = os.urandom(max(_FETCHED, size))
            end = size
        taken = self._bytes[end - size : end]
        self._used = end
        return taken

    def forget(self) -> None:
        """Give none of those that are fetched already."""
        self._bytes = b""
        self._used = 0


random_bytes = _Pool()
# A child process would give the parent's next bytes once more.
os.register_at_fork(after_in_child=random_bytes.forget)
