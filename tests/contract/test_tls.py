"""The same over TLS, whose sockets close in another way."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from tests.listener.app import App, fill, lent, serving_app
from tests.listener.certificate import make_certificate
from tests.listener.raw import eventually, nothing_unhandled, raw_client, request, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEALTH = request(b"GET /_wsgateway/health", b"Host: gateway")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings that name a certificate."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("certificate"))
    return {"tls_certificate": certificate, "tls_key": key}


@pytest.fixture(scope="module")
def trusting(certificate: dict[str, Any]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate["tls_certificate"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_tls_app(certificate: dict[str, Any]) -> AsyncIterator[App]:
    async with serving_app(**certificate) as app:
        yield app


@pytest_asyncio.fixture(loop_scope="module")
async def tls_app(shared_tls_app: App) -> AsyncIterator[App]:
    async with lent(shared_tls_app):
        yield shared_tls_app


def connect_by_tls(app: App, context: ssl.SSLContext, **options: Any) -> connect:
    options = {"compression": None, "ping_interval": None, "proxy": None, **options}
    return connect(f"wss://127.0.0.1:{app.port}/dev", ssl=context, **options)


async def test_over_tls_messages_and_close_codes_are_the_same(
    tls_app: App, trusting: ssl.SSLContext
) -> None:
    async with connect_by_tls(tls_app, trusting, max_size=None) as client:
        for message in ("hello", ["a" * 32768] * 4):
            await client.send(message)
            assert await client.recv() == "".join(message)
        await client.close(4000, "done")

        assert (client.close_code, client.close_reason) == (4000, "done")
    assert await tls_app.disconnected() == (4000, "done")


async def test_over_tls_the_gateway_closes(tls_app: App, trusting: ssl.SSLContext) -> None:
    async with connect_by_tls(tls_app, trusting) as client:
        tls_app.gateway.advance(601)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd == Close(1001, "Going away")
    assert await tls_app.disconnected() == (1001, "Going away")


async def test_over_tls_1009_is_readable_although_more_was_in_flight(
    tls_app: App, trusting: ssl.SSLContext
) -> None:
    async with connect_by_tls(tls_app, trusting) as client:
        with suppress(ConnectionClosed):
            await client.send("a" * 3_000_000)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd == Close(1009, "")
    assert await tls_app.disconnected() == (1009, "")


async def test_over_tls_a_refusal_is_readable(tls_app: App, trusting: ssl.SSLContext) -> None:
    tls_app.on_connect = lambda: {"statusCode": 401}
    with pytest.raises(InvalidStatus) as refusal:
        async with connect_by_tls(tls_app, trusting):
            pass
    assert refusal.value.response.status_code == 401


@pytest.mark.parametrize(
    ("status", "events"), [(200, ["CONNECT", "DISCONNECT"]), (401, ["CONNECT"])]
)
async def test_over_tls_a_client_that_leaves_during_connect(
    tls_app: App, trusting: ssl.SSLContext, status: int, events: list[str]
) -> None:
    verdict = asyncio.Event()

    async def wait() -> dict[str, int]:
        await verdict.wait()
        return {"statusCode": status}

    tls_app.on_connect = wait
    _, writer = await asyncio.open_connection("127.0.0.1", tls_app.port, ssl=trusting)
    writer.write(upgrade())
    await eventually(lambda: tls_app.events)
    writer.transport.abort()
    await exchange_by_tls(tls_app, trusting)
    verdict.set()
    await eventually(lambda: not tls_app.gateway.shared.tasks)
    await eventually(lambda: tls_app.event_types() == events)
    assert not tls_app.gateway.shared.farewells


async def exchange_by_tls(app: App, context: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port, ssl=context)
    writer.write(HEALTH)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_over_tls_a_client_that_does_not_read_is_bounded_and_dropped(
    tls_app: App, trusting: ssl.SSLContext
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", tls_app.port, ssl=trusting, limit=1000
    )
    writer.write(upgrade())
    await reader.readuntil(b"\r\n\r\n")
    connection = tls_app.connection()
    fill(connection)
    tls_app.gateway.advance(601)
    tls_app.gateway.advance(7)
    assert await tls_app.disconnected() == (1001, "Going away")
    writer.transport.abort()


@pytest.mark.slow
async def test_a_tls_handshake_has_as_long_as_a_head(certificate: dict[str, Any]) -> None:
    async with serving_app(**certificate, head_timeout_s=0.3) as app:
        with nothing_unhandled():
            async with raw_client(app.port) as client:
                assert await client.ended() == b""


async def test_plain_http_on_a_tls_port_is_dropped(tls_app: App) -> None:
    async with raw_client(tls_app.port) as client:
        await client.send(HEALTH)
        assert b"HTTP" not in await client.ended()
