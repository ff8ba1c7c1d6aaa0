"""What an HTTP client may take: time, bytes, requests, descriptors."""

from __future__ import annotations

import asyncio
import http.client
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.e2e import process
from tests.harness import echo, recording, serving
from tests.listener.raw import (
    UPGRADE_HEADERS,
    Response,
    eventually,
    exchange,
    nothing_unhandled,
    raw_client,
    request,
    upgrade,
)
from wsgateway.limits import BODY_DISCARD_MAX, PIPELINE_MAX
from wsgateway.listener.http import Http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.e2e.process import GatewayProcess
    from tests.harness import Event, Running
    from tests.listener.raw import RawClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

METRICS = request(b"GET /_wsgateway/metrics", b"Host: gateway")
# A folder needs a handler.
NO_ROUTE = {"unused.py": "def handler(event, context): ..."}
HEALTH = request(b"GET /_wsgateway/health", b"Host: gateway")
# A well-formed id that belongs to nobody.
NOBODY = b"/dev/@connections/AAAAAAAAAgAAAAA="


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_gateway() -> AsyncIterator[Running]:
    async with serving({"$default": echo}, two_way=("$default",)) as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(shared_gateway: Running) -> AsyncIterator[Running]:
    with nothing_unhandled():
        yield shared_gateway
        await eventually(lambda: not len(shared_gateway.shared.deadlines))


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return request(b"POST " + NOBODY, b"Host: gateway", *headers, body=body)


def has_read(gateway: Running) -> asyncio.Future[Response]:
    """Wait until the gateway has read what was sent to it before."""
    return asyncio.ensure_future(exchange(gateway.port, HEALTH))


def http_connections(gateway: Running) -> list[Http]:
    state = gateway.gateway._listeners[0].server_state
    return [connection for connection in state.connections if isinstance(connection, Http)]


async def new_http_connection(gateway: Running, client: RawClient) -> Http:
    """Answer one request, and return the gateway's side of the connection."""
    await client.send(HEALTH)
    await client.response()
    [connection] = http_connections(gateway)
    return connection


def small_send_buffers(gateway: Running) -> None:
    """Let the kernel take little for connections accepted from now on, not megabytes."""
    for listening in gateway.gateway._ports.public:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


# --- time


@pytest.mark.parametrize("sent", [b"", b"GET /dev HTTP/1.1\r\nHost: ga", b"\r\n\r\n"])
async def test_a_head_has_10_seconds_from_the_accept_on(gateway: Running, sent: bytes) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(sent)
        await has_read(gateway)

        gateway.advance(8)
        assert client.has_received() == b""
        gateway.advance(3)
        response = await client.response()
        assert response.status == 408
        assert response.header("x-amzn-ErrorType") == "RequestTimeoutException"
        assert response.header("Connection") == "close"
        assert response.body == b'{"message":"Request Timeout"}'
        assert await client.ended() == b""


async def test_a_head_that_comes_byte_by_byte_has_no_more_time(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        for byte in upgrade()[:12]:
            await client.send(bytes([byte]))
            await has_read(gateway)
            gateway.advance(1)

        assert (await client.response()).status == 408


async def test_the_next_head_has_10_seconds_from_its_first_byte(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(HEALTH)
        await client.response()
        gateway.advance(60)
        await client.send(HEALTH[:20])
        await has_read(gateway)
        gateway.advance(8)
        assert client.has_received() == b""
        gateway.advance(3)
        assert (await client.response()).status == 408


async def test_a_head_that_begins_behind_another_request_has_10_seconds(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(HEALTH + HEALTH[:20])
        assert (await client.response()).status == 200

        gateway.advance(8)
        assert client.has_received() == b""
        gateway.advance(3)
        assert (await client.response()).status == 408


async def test_a_connection_without_a_request_is_closed_silently(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(HEALTH)
        await client.response()
        gateway.advance(74)
        await client.send(HEALTH)
        assert (await client.response()).status == 200
        gateway.advance(77)

        assert await client.ended() == b""


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "chunked"]
)
async def test_a_body_has_30_seconds(gateway: Running, framing: bytes) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(framing))
        for _ in range(28):
            await client.send(b"1\r\nx\r\n" if b"chunked" in framing else b"x")
            await has_read(gateway)
            gateway.advance(1)
        assert client.has_received() == b""
        gateway.advance(3)

        assert (await client.response()).status == 408
        assert await client.ended() == b""


async def test_a_body_that_nobody_wants_has_30_seconds_too(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Content-Length: 1000000"))
        assert (await client.response()).status == 413
        gateway.advance(32)

        assert await client.ended() == b""


async def test_time_in_which_the_gateway_does_not_read_does_not_count() -> None:
    """A pipelined body is not read before the request in front of it is answered."""
    entered, released = asyncio.Event(), asyncio.Event()
    async with serving({"$default": echo}) as gateway:
        config = gateway.gateway._listeners[0].config
        app = config.loaded_app

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if not entered.is_set():
                entered.set()
                await released.wait()
            await app(scope, receive, send)

        config.loaded_app = slow
        async with raw_client(gateway.port) as client:
            await client.send(HEALTH + post(b"Content-Length: 5") + b"he")
            await entered.wait()
            for _ in range(3):
                gateway.advance(29)
            released.set()
            assert (await client.response()).status == 200
            await client.send(b"llo")
            assert (await client.response()).status == 410


async def test_a_body_is_asked_for_when_it_is_wanted(gateway: Running) -> None:
    """RFC 9110, 10.1.1."""
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Expect: 100-continue", b"Content-Length: 5"))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).status == 410

        await client.send(post(b"Expect: 100-continue", b"Content-Length: 1000000"))
        assert (await client.response()).status == 413


# --- bytes


async def test_a_url_of_4096_bytes_is_allowed(gateway: Running) -> None:
    target = b"/dev?" + b"a" * 4091
    async with raw_client(gateway.port) as client:
        await client.open_websocket(target)
    response = await exchange(gateway.port, request(b"GET " + target, b"Host: gateway"))
    assert response.status == 426


@pytest.mark.parametrize("size", [4097, 40_000])
async def test_a_longer_url_is_414(gateway: Running, size: int) -> None:
    response = await exchange(gateway.port, upgrade(b"/dev?" + b"a" * (size - 5)))

    assert response.status == 414
    assert response.header("x-amzn-ErrorType") == "RequestUriTooLongException"
    assert response.body == b'{"message":"URI Too Long"}'


@pytest.mark.parametrize(
    "headers",
    [
        [b"X-Large: " + b"a" * 40_000],
        [b"a" * 40_000 + b": x"],
        [b"X-%d: %s" % (number, b"a" * 1000) for number in range(40)],
        [b"X-%d: x" % number for number in range(100)],
    ],
    ids=["one value", "one name", "many values", "more than 100 lines"],
)
async def test_a_head_that_is_too_large_is_431(gateway: Running, headers: list[bytes]) -> None:
    response = await exchange(gateway.port, upgrade(b"/dev", *headers))

    assert response.status == 431
    assert response.header("x-amzn-ErrorType") == "RequestHeaderFieldsTooLargeException"
    assert response.body == b'{"message":"Request Header Fields Too Large"}'


async def test_100_header_lines_and_30_kb_are_allowed(gateway: Running) -> None:
    headers = [b"X-%02d: %s" % (number, b"a" * 310) for number in range(95)]
    async with raw_client(gateway.port) as client:
        await client.open_websocket(b"/dev", *headers)


async def test_empty_lines_before_a_request_are_a_head_too(gateway: Running) -> None:
    """RFC 9112, 2.2 lets a server ignore them; it does not say how many."""
    async with raw_client(gateway.port) as client:
        await client.send(b"\r\n" + HEALTH)
        assert (await client.response()).status == 200
        await client.send(b"\r\n" * 20_000)
        assert (await client.response()).status == 431


async def test_a_body_over_a_message_is_413_and_its_sender_can_read_that(
    gateway: Running,
) -> None:
    """By a client that reads only after it has sent everything."""

    def send_all_then_read() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        try:
            connection.request("POST", NOBODY.decode(), body=b"a" * 1_000_000)
            response = connection.getresponse()
            answer = response.status, response.read()
            # And the connection can be used again.
            connection.request("GET", "/_wsgateway/health")
            assert connection.getresponse().status == 200
            return answer
        finally:
            connection.close()

    status, body = await asyncio.to_thread(send_all_then_read)

    assert status == 413
    assert body == b'{"message":"Payload too large"}'


@pytest.mark.slow
async def test_a_body_without_an_end_is_413_and_then_dropped(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Transfer-Encoding: chunked"))
        taken = await client.flood(b"ffff\r\n" + b"a" * 65535 + b"\r\n", 100_000_000)

        assert BODY_DISCARD_MAX <= taken < 2 * BODY_DISCARD_MAX + 10_000_000


async def test_413_of_a_body_without_an_end_is_readable(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Transfer-Encoding: chunked"))
        await client.send((b"ffff\r\n" + b"a" * 65535 + b"\r\n") * 3)

        assert (await client.response()).status == 413


@pytest.mark.parametrize(
    "endless",
    [b"X-Trailer: x\r\n", b"a", b"a:" + b"b" * 100],
    ids=["lines", "name", "value"],
)
async def test_trailers_without_an_end_are_431(gateway: Running, endless: bytes) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n"))
        await has_read(gateway)
        await client.send(endless * (80_000 // len(endless)))
        assert (await client.response()).status == 431


async def test_a_chunk_extension_without_an_end_is_431(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n1;"))
        await has_read(gateway)
        await client.send(b"a" * 80_000)
        assert (await client.response()).status == 431


async def test_trailers_are_not_headers(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        body = b"1\r\nx\r\n0\r\nHost: other\r\nUpgrade: websocket\r\n\r\n"
        await client.send(post(b"Transfer-Encoding: chunked", body=body) + HEALTH)
        assert (await client.response()).status == 410
        assert (await client.response()).status == 200


# --- requests


async def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    gone = post(b"Content-Length: 1", body=b"x")
    async with raw_client(gateway.port) as client:
        await client.send((HEALTH + gone) * (PIPELINE_MAX // 2))
        for _ in range(PIPELINE_MAX // 2):
            assert (await client.response()).status == 200
            assert (await client.response()).status == 410


async def test_garbage_behind_an_unanswered_request_drops_both(gateway: Running) -> None:
    """What was answered now would be taken for the answer to the other."""
    async with raw_client(gateway.port) as client:
        await client.send(HEALTH + b"\x00")
        assert b" 400 " not in await client.ended()


async def test_10_000_pipelined_requests_are_dropped(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.flood(HEALTH * 10_000, 1)

        answers = await client.ended()
        assert answers.count(b"HTTP/1.1 200 OK") <= PIPELINE_MAX + 1


async def ask_for_metrics(connection: Http, client: RawClient) -> None:
    """Request a large answer, and wait until it is written or cannot be."""
    served = connection.server_state.total_requests
    await client.send(METRICS)
    await eventually(
        lambda: connection.server_state.total_requests > served or connection.flow.write_paused
    )


@pytest.mark.slow
async def test_a_client_that_does_not_read_its_answers_is_dropped() -> None:
    async with serving({"$default": echo}) as gateway:
        small_send_buffers(gateway)
        async with raw_client(gateway.port, receive_buffer=4096) as client:
            connection = await new_http_connection(gateway, client)
            while not connection.flow.write_paused:
                await ask_for_metrics(connection, client)
            await client.send(HEALTH)
            await eventually(lambda: connection.scope["path"] == "/_wsgateway/health")
            assert not connection.cycle.response_complete

            gateway.advance(28)
            assert not connection.transport.is_closing()
            gateway.advance(3)
            await eventually(lambda: not http_connections(gateway))


@pytest.mark.slow
async def test_a_client_that_reads_its_answers_late_gets_them_all() -> None:
    async with serving({"$default": echo}) as gateway:
        small_send_buffers(gateway)
        async with raw_client(gateway.port, receive_buffer=4096) as client:
            connection = await new_http_connection(gateway, client)
            asked = 0
            while not connection.flow.write_paused:
                await ask_for_metrics(connection, client)
                asked += 1
            await client.send(HEALTH)
            gateway.advance(20)

            for _ in range(asked):
                assert (await client.response()).status == 200
            assert (await client.response()).body == b'{"status":"ready"}'
            gateway.advance(20)
            await client.send(HEALTH)
            assert (await client.response()).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["end_sending", "close header"])
async def test_a_closing_connection_whose_answer_is_not_read_is_dropped(leave: str) -> None:
    async with serving({"$default": echo}) as gateway:
        small_send_buffers(gateway)
        async with raw_client(gateway.port, receive_buffer=4096) as client:
            connection = await new_http_connection(gateway, client)
            while connection.transport.get_write_buffer_size() == 0:
                await ask_for_metrics(connection, client)
            if leave == "end_sending":
                client.end_sending()
            else:
                await client.send(METRICS[:-2] + b"Connection: close\r\n\r\n")
            await eventually(connection.transport.is_closing)
            assert http_connections(gateway)

            gateway.advance(7)
            await eventually(lambda: not http_connections(gateway))


@pytest.mark.slow
async def test_an_upgrade_of_a_client_that_does_not_read_is_dropped() -> None:
    """Its socket is not told to pause a second time, so its pongs would have no bound."""
    events: list[Event] = []
    async with serving({"$connect": recording(events)}) as gateway:
        small_send_buffers(gateway)
        async with raw_client(gateway.port, receive_buffer=4096) as client:
            connection = await new_http_connection(gateway, client)
            while not connection.flow.write_paused:
                await ask_for_metrics(connection, client)
            assert connection.cycle.response_complete
            await client.send(upgrade())

            await eventually(lambda: not http_connections(gateway))
    assert events == []


async def test_a_refused_client_that_does_not_leave_is_dropped(gateway: Running) -> None:
    async with raw_client(gateway.port) as client:
        await client.send(b"GET /dev HTTP/1.1\r\n\r\n")
        assert (await client.response()).status == 400
        assert await client.ended() == b""
        assert len(gateway.shared.deadlines) == 1

        gateway.advance(7)
        await eventually(lambda: not len(gateway.shared.deadlines))


async def test_stopping_closes_refused_clients() -> None:
    async with serving({"$default": echo}) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(b"GET /dev HTTP/1.1\r\n\r\n")
            await eventually(lambda: gateway.shared.farewells)
            await gateway.gateway.stop()

            await eventually(lambda: not gateway.shared.farewells)


# --- memory, of a gateway in a process of its own


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    folder = process.write_app(tmp_path_factory.mktemp("attacked") / "routes", NO_ROUTE)
    settings = {f"{name}_timeout_s": 1.0 for name in ("head", "body", "keep_alive", "close")} | {
        "log_level": "error"
    }
    async with process.serving(folder, settings=settings) as gateway:
        # The first requests of a process load code; they are not what is measured.
        await exchange(gateway.port, post(b"Content-Length: 1000000", body=b"a" * 1_000_000))
        await exchange(gateway.port, upgrade(b"/dev", b"X: " + b"a" * 300_000))
        yield gateway


def peak_kib(gateway: GatewayProcess) -> int:
    """Return the most resident memory that the process ever had."""
    status = Path(f"/proc/{gateway.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


async def half_a_head(client: RawClient) -> None:
    await client.send(upgrade()[:100])


async def slow_head(client: RawClient) -> None:
    await client.send(b"GET /dev HTTP/1.1\r\nX: ")
    await eventually(lambda: client.send_what_fits(b"a") and client.has_received())


async def slow_body(client: RawClient) -> None:
    await client.send(post(b"Content-Length: 100000"))
    await eventually(lambda: client.send_what_fits(b"a") and client.has_received())


async def head_of_64_mb(client: RawClient) -> None:
    await client.send(request(b"GET /dev", *UPGRADE_HEADERS)[:-2] + b"X: ")
    await client.flood(b"a" * 1_000_000, 64_000_000)


async def million_headers(client: RawClient) -> None:
    await client.send(request(b"GET /dev", *UPGRADE_HEADERS)[:-2])
    await client.flood(b"X-Header: value\r\n" * 10_000, 17_000_000)


async def url_of_16_mb(client: RawClient) -> None:
    await client.send(b"GET /dev?")
    await client.flood(b"a" * 1_000_000, 16_000_000)


async def trailer_without_an_end(client: RawClient) -> None:
    await client.send(post(b"Transfer-Encoding: chunked", body=b"0\r\nX: "))
    await client.flood(b"a" * 1_000_000, 64_000_000)


async def trailers_without_an_end(client: RawClient) -> None:
    await client.send(post(b"Transfer-Encoding: chunked", body=b"0\r\n"))
    await client.flood(b"X-Trailer: value\r\n" * 10_000, 17_000_000)


async def body_of_1_mb(client: RawClient) -> None:
    await client.send(post(b"Content-Length: 1000000", body=b"a" * 1_000_000))


async def chunks_without_an_end(client: RawClient) -> None:
    await client.send(post(b"Transfer-Encoding: chunked"))
    await client.flood(b"ffff\r\n" + b"a" * 65535 + b"\r\n", 64_000_000)


async def small_chunks_without_an_end(client: RawClient) -> None:
    await client.send(post(b"Transfer-Encoding: chunked"))
    await client.flood((b"20\r\n" + b"a" * 32 + b"\r\n") * 5_000, 64_000_000)


async def pipeline_of_10_000(client: RawClient) -> None:
    await client.flood(HEALTH * 10_000, 1)


DROPPED = 0


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("attack", "status"),
    [
        (half_a_head, 408),
        (slow_head, 408),
        (slow_body, 408),
        (head_of_64_mb, 431),
        (million_headers, 431),
        (url_of_16_mb, 414),
        (trailer_without_an_end, 431),
        (trailers_without_an_end, 431),
        (body_of_1_mb, 413),
        (chunks_without_an_end, DROPPED),
        (small_chunks_without_an_end, DROPPED),
        (pipeline_of_10_000, DROPPED),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_an_attack_is_refused_in_time_and_takes_no_memory(
    attacked: GatewayProcess,
    attack: Callable[[RawClient], Awaitable[None]],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four at once; a deadline of a second is looked at within another one."""

    async def one() -> int:
        async with raw_client(attacked.port) as client:
            try:
                await attack(client)
                return (await client.response()).status
            except (EOFError, OSError):
                return DROPPED

    loop = asyncio.get_running_loop()
    before_kib, started_s = peak_kib(attacked), loop.time()
    statuses = await asyncio.gather(*(one() for _ in range(4)))
    took_s = loop.time() - started_s

    grown_kib = peak_kib(attacked) - before_kib
    with capsys.disabled():
        sys.stdout.write(
            f" [{statuses[0]}, {took_s:.1f} s, peak RSS {before_kib} + {grown_kib} KiB]"
        )
    # Each connection may hold what was read in one go and what is kept of a head.
    assert grown_kib < 4 * 1024
    if status == 408:
        assert took_s < 5
    if status != DROPPED:
        assert statuses == [status] * 4
