"""The machine's time."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's time.

    Args:
        wall_offset_s: How much later the wall clock is than the machine's.
    """

    def __init__(self, wall_offset_s: float = 0.0) -> None:
        self._wall_offset_ns = round(wall_offset_s * 1e9)

    def epoch_ms(self) -> int:
        """Tell the wall clock."""
        return (time.time_ns() + self._wall_offset_ns) // 1_000_000

    monotonic_s = staticmethod(time.monotonic)
