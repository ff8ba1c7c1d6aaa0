"""10,000 connections that do nothing."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.client import open_clients
from tests.e2e.process import GatewayProcess, serving, until, write_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CONNECTIONS = 10_000
# What else the test and the gateway have open, and keep free.
DESCRIPTORS_BESIDE = 500
ECHO = "async def handler(event, context): return {'statusCode': 200, 'body': event['body']}\n"


@pytest.fixture
def descriptors() -> Iterator[int]:
    """How many descriptors a process can have here; the gateway raises its own limit."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


async def test_10000_idle_connections(
    tmp_path: Path, descriptors: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = CONNECTIONS + DESCRIPTORS_BESIDE
    if descriptors < wanted:
        pytest.fail(
            f"{CONNECTIONS} connections need {wanted} descriptors and a process can have "
            f"{descriptors} here: raise the hard limit (ulimit -Hn)"
        )
    app = write_app(tmp_path / "app", {"echo.py": ECHO})
    async with serving(app, settings={"log_level": "warning"}) as gateway:
        rss_before_kib = gateway.rss_kib()

        started_s = time.monotonic()
        clients = await open_clients(gateway.port, CONNECTIONS)
        opened_s = time.monotonic() - started_s
        rss_kib = gateway.rss_kib()

        assert await gateway.connections() == CONNECTIONS
        for client in clients[::100]:
            client.send('{"action":"echo"}')
        await until(lambda: all(client.messages for client in clients[::100]), 30)
        assert not any(client.closed.done() for client in clients)

        for client in clients:
            client.close()
        async with asyncio.timeout(30):
            closed = await asyncio.gather(*(client.closed for client in clients))
        assert set(closed) == {(1000, "")}
        await until(lambda: none_left(gateway), 30)

        with capsys.disabled():
            per_connection = (rss_kib - rss_before_kib) / CONNECTIONS
            print(  # noqa: T201 - the figures
                f" [{CONNECTIONS} connections opened in {opened_s:.1f} s, RSS {rss_kib // 1024} MiB"
                f" of which {per_connection:.1f} KiB each,"
                f" {gateway.rss_kib() // 1024} MiB after them]",
                end="",
            )
    assert gateway.output == ""


async def none_left(gateway: GatewayProcess) -> bool:
    return await gateway.connections() == 0
