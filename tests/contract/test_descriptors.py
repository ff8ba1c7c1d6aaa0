"""A gateway that runs out of file descriptors lets clients wait, and turns none away."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import process
from tests.listener.certificate import make_certificate
from tests.listener.raw import eventually, raw_client, upgrade

if TYPE_CHECKING:
    from tests.e2e.process import GatewayProcess
    from tests.listener.raw import RawClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# A folder needs a handler.
NO_ROUTE = {"unused.py": "def handler(event, context): ..."}
# 256 less the reserve of 64, and one that was accepted meanwhile.
IN_USE_MAX = 193


def with_256_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    monkeypatch.setattr(process, "COMMAND", (*limited, *process.COMMAND))


def descriptors_of(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))


def count(gateway: GatewayProcess, event: str) -> int:
    return sum(line["event"].startswith(event) for line in gateway.log)


async def test_clients_beyond_the_descriptors_wait_and_are_served_when_some_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_256_descriptors(monkeypatch)
    folder = process.write_app(tmp_path / "routes", NO_ROUTE)
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(process.serving(folder))
        clients = []
        for _ in range(240):
            client = await stack.enter_async_context(raw_client(gateway.port))
            await client.send(upgrade())
            clients.append(client)
        await eventually(lambda: count(gateway, "accepting is paused"))
        assert IN_USE_MAX - 1 <= descriptors_of(gateway) <= IN_USE_MAX
        served: list[RawClient] = []
        waiting: list[RawClient] = []
        for client in clients:
            (served if client.has_received() else waiting).append(client)
        assert 150 < len(served) < 190

        for client in served[:100]:
            client.close()
        for client in waiting:
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert count(gateway, "accepting again") >= 1
        assert descriptors_of(gateway) < IN_USE_MAX


async def test_clients_that_have_not_finished_their_tls_handshake_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_256_descriptors(monkeypatch)
    folder = process.write_app(tmp_path / "routes", NO_ROUTE)
    certificate, key = make_certificate(tmp_path)
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            process.serving(
                folder,
                settings={"tls_certificate": certificate, "tls_key": key, "head_timeout_s": 0.5},
            )
        )
        clients = [await stack.enter_async_context(raw_client(gateway.port)) for _ in range(240)]
        await eventually(lambda: count(gateway, "accepting is paused"))
        assert descriptors_of(gateway) <= IN_USE_MAX

        # The deadline ends those that were accepted, and then the others.
        for client in clients:
            assert await client.ended() == b""
        await eventually(lambda: count(gateway, "accepting again"))
