"""Stand-ins for what a unit test has no use for: time, sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.contracts import ConnectionInfo

if TYPE_CHECKING:
    from wsgateway.connection import ConnectionEntry
    from wsgateway.errors import RequestRefused


class ManualClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, epoch_ms: int = 1708326702789) -> None:
        self.now_ms = epoch_ms
        self.now_s = 0.0

    def epoch_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.now_s += seconds


class FakeConnection:
    """A connection without a socket.

    Attributes:
        sent: The payloads it took.
        closed: The code and reason that it was closed with.
        refusal: Raised by `send`.
    """

    def __init__(self, entry: ConnectionEntry) -> None:
        self.entry = entry
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.refusal: RequestRefused | None = None

    def send(self, payload: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append(payload)

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def leave(self) -> None:
        self.close(1001, "Going away")

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(
            connected_at_ms=self.entry.connected_at_ms,
            last_active_at_ms=self.entry.connected_at_ms + 2969,
            source_ip=self.entry.source_ip,
            user_agent=self.entry.user_agent,
        )
