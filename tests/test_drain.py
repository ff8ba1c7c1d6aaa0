"""How fast a drain closes connections; what becomes of them is in tests/e2e/test_drain.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wsgateway.drain import Drain


class Connection:
    def __init__(self) -> None:
        self.left = 0

    def leave(self) -> None:
        self.left += 1

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed by force: {code} {reason}")


@pytest.mark.parametrize("jitter", [0.0, 0.5])
async def test_pauses_between_closed_connections_are_never_shorter_than_the_rate_allows(
    monkeypatch: pytest.MonkeyPatch, jitter: float
) -> None:
    connections = [Connection() for _ in range(1000)]
    # Those that have left are in it no more when the rest is closed by force.
    shared: Any = SimpleNamespace(
        hub=SimpleNamespace(snapshot=lambda: [c for c in connections if not c.left]),
        draining=False,
        tasks=set(),
        websockets_open=0,
    )
    chances = iter([0.0, 0.25, 1.0] * 1000)
    drain = Drain(
        shared,
        close_rate=100.0,
        close_jitter=jitter,
        grace_period_s=0.0,
        chance=lambda: next(chances),
    )
    pauses: list[tuple[int, float]] = []

    async def wait(seconds: float) -> None:
        pauses.append((sum(connection.left for connection in connections), seconds))

    monkeypatch.setattr(drain, "wait", wait)
    assert await drain.run() == 0

    assert [connection.left for connection in connections] == [1] * 1000
    assert [left for left, _ in pauses] == list(range(5, 1000, 5))
    expected = [0.05 * (1 + jitter * chance) for chance in (0.0, 0.25, 1.0)]
    assert [seconds for _, seconds in pauses[:3]] == pytest.approx(expected)
    assert min(seconds for _, seconds in pauses) == pytest.approx(0.05)
