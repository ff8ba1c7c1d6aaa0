"""The HTTP client: what goes out, what comes back, and every way in which it does not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.integrations.backends import ANSWER, http_backend, raw_backend, refusing_url
from tests.listener.certificate import make_certificate
from wsgateway.contracts import HttpResponse
from wsgateway.errors import BackendUnreachable, IntegrationTimeout
from wsgateway.integrations import resending
from wsgateway.integrations.client import AioHttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integrations.backends import RawBackend


@asynccontextmanager
async def http_client(**options: Any) -> AsyncIterator[AioHttpClient]:
    client = AioHttpClient(**options)
    try:
        yield client
    finally:
        await client.close()


async def post(
    client: AioHttpClient, url: str, body: bytes = b"hi", **options: Any
) -> HttpResponse:
    options = {"headers": [], "timeout_s": 5.0, **options}
    return await client.send("POST", url, body=body, **options)


async def test_what_is_sent_is_what_was_given_and_host_and_content_length() -> None:
    async with http_backend() as backend, http_client() as client:
        await post(
            client,
            f"{backend.url}/a%2Fb/%2E?x=%7B&y",
            headers=[("b-Name", "1"), ("A-NAME", "é"), ("b-name", "2")],
        )

    [request] = backend.received
    assert request.line == "POST /a%2Fb/%2E?x=%7B&y"
    assert request.headers == [
        ("Host", backend.url.removeprefix("http://")),
        ("b-Name", "1"),
        ("A-NAME", "Ã©"),
        ("b-name", "2"),
        ("Content-Length", "2"),
    ]
    assert request.body == b"hi"


@pytest.mark.parametrize(
    ("method", "length"),
    [
        ("GET", []),
        ("HEAD", []),
        ("OPTIONS", []),
        ("POST", [("Content-Length", "0")]),
        ("PUT", [("Content-Length", "0")]),
        ("PATCH", [("Content-Length", "0")]),
        ("DELETE", [("Content-Length", "0")]),
    ],
)
async def test_a_request_without_a_body(method: str, length: list[tuple[str, str]]) -> None:
    async with http_backend() as backend, http_client() as client:
        await client.send(method, backend.url, headers=[], body=b"", timeout_s=5.0)

    [request] = backend.received
    assert request.line == f"{method} /"
    assert request.without_host() == length
    assert request.body == b""


async def test_a_get_may_have_a_body() -> None:
    async with http_backend() as backend, http_client() as client:
        await client.send("GET", backend.url, headers=[], body=b"hi", timeout_s=5.0)

    [request] = backend.received
    assert request.without_host() == [("Content-Length", "2")]
    assert request.body == b"hi"


async def test_status_headers_and_body_come_back_as_they_are() -> None:
    async with http_backend() as backend, http_client() as client:
        backend.status, backend.body = 418, b"\xff\x00"
        backend.headers = [("x-One", "a"), ("X-ONE", "b, c"), ("Content-Type", "text/x")]

        response = await post(client, backend.url)

    assert response.status == 418
    assert response.body == b"\xff\x00"
    assert [h for h in response.headers if h[0].lower() in {"x-one", "content-type"}] == [
        ("x-One", "a"),
        ("X-ONE", "b, c"),
        ("Content-Type", "text/x"),
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with http_backend() as backend, http_client() as client:
        backend.status, backend.headers = status, [("Location", "/elsewhere")]

        response = await post(client, backend.url)

    assert response.status == status
    assert [request.line for request in backend.received] == ["POST /"]


async def test_no_cookie_is_kept() -> None:
    async with http_backend() as backend, http_client() as client:
        backend.headers = [("Set-Cookie", "a=b; Path=/")]
        await post(client, backend.url)
        await post(client, backend.url)

    assert [request.without_host() for request in backend.received] == 2 * [
        [("Content-Length", "2")]
    ]


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, refusing_url())
    async with http_backend() as backend, http_client() as client:
        response = await post(client, backend.url)

    assert response.body == b"ok"


async def test_a_compressed_body_stays_compressed() -> None:
    compressed = gzip.compress(b"text")
    async with http_backend() as backend, http_client() as client:
        backend.body, backend.headers = compressed, [("Content-Encoding", "gzip")]

        response = await post(client, backend.url)

    assert response.body == compressed


async def test_an_empty_answer() -> None:
    async with http_backend() as backend, http_client() as client:
        backend.status, backend.body = 204, b""

        response = await post(client, backend.url)

    assert (response.status, response.body) == (204, b"")


async def test_interim_answers_are_passed_over() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER)

    with raw_backend(script) as backend:
        async with http_client() as client:
            assert await post(client, backend.url) == HttpResponse(
                200, [("Content-Length", "2")], b"ok"
            )


async def test_connections_are_kept_open() -> None:
    async with http_backend() as backend, http_client() as client:
        for _ in range(3):
            await post(client, backend.url)

    assert len(backend.received) == 3
    assert len(set(backend.peers)) == 1


async def test_an_idle_connection_is_not_used_for_ever() -> None:
    async with http_backend() as backend, http_client(keep_alive_s=0.0) as client:
        await post(client, backend.url)
        await post(client, backend.url)

    assert len(set(backend.peers)) == 2


async def test_beyond_the_bound_of_connections_a_request_waits_in_its_own_time() -> None:
    async with http_backend() as backend, http_client(connections_max=1) as client:
        arrived, proceed = asyncio.Event(), asyncio.Event()

        async def answer(request: web.Request) -> web.Response:
            arrived.set()
            await proceed.wait()
            return web.Response(body=b"late")

        backend.answer = answer
        first = asyncio.create_task(post(client, backend.url))
        await arrived.wait()
        with pytest.raises(IntegrationTimeout):
            await post(client, backend.url, timeout_s=0.05)
        proceed.set()

        assert (await first).body == b"late"
        assert len(backend.received) == 1


async def test_one_backend_does_not_take_all_connections() -> None:
    async with (
        http_backend() as slow,
        http_backend() as quick,
        http_client(connections_max=2, connections_per_backend_max=1) as client,
    ):
        proceed = asyncio.Event()

        async def answer(request: web.Request) -> web.Response:
            await proceed.wait()
            return web.Response()

        slow.answer = answer
        waiting = [asyncio.create_task(post(client, slow.url)) for _ in range(3)]

        assert (await post(client, quick.url)).body == b"ok"
        proceed.set()
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0"])
async def test_what_does_not_stay_on_its_line_is_never_written(text: str) -> None:
    async with http_backend() as backend, http_client() as client:
        with pytest.raises(ValueError, match="does not stay on its line"):
            await post(client, backend.url, headers=[("a", text)])
        with pytest.raises(ValueError, match="does not stay on its line"):
            await post(client, backend.url, headers=[(text, "a")])
        with pytest.raises(ValueError, match="does not stay on its line"):
            await client.send(text, backend.url, headers=[], body=b"", timeout_s=5.0)

    assert backend.received == []


@pytest.mark.parametrize(
    "url", ["", "/x", "ftp://x/", "http://", "http://u:p@x/", "http://x/a b", "http://x/\r\nX: y"]
)
async def test_what_is_no_url_is_refused(url: str) -> None:
    async with http_client() as client:
        with pytest.raises(ValueError, match="HTTP"):
            await post(client, url)


@pytest.mark.parametrize(
    ("url", "line"),
    [("", "POST /"), ("?a=b", "POST /?a=b"), ("/?", "POST /?"), ("//x", "POST //x")],
)
async def test_a_url_without_a_path_has_the_root(url: str, line: str) -> None:
    async with http_backend() as backend, http_client() as client:
        await post(client, backend.url + url)

    assert backend.received[0].line == line


async def test_host_and_content_length_may_be_given() -> None:
    async with http_backend() as backend, http_client() as client:
        await post(client, backend.url, headers=[("content-length", "2"), ("host", "other")])

    assert backend.received[0].headers == [("content-length", "2"), ("host", "other")]


async def test_an_answer_as_large_as_allowed_comes_back() -> None:
    async with http_backend() as backend, http_client(response_size_max=100) as client:
        backend.body = b"x" * 100

        assert (await post(client, backend.url)).body == b"x" * 100


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_larger_answer_is_a_fault(chunked: bool) -> None:
    async with http_backend() as backend, http_client(response_size_max=100) as client:

        async def answer(request: web.Request) -> web.Response:
            response = web.Response(body=b"x" * 101)
            if chunked:
                response.enable_chunked_encoding()
            return response

        backend.answer = answer
        with pytest.raises(BackendUnreachable) as caught:
            await post(client, backend.url)

    assert str(caught.value) == "the answer has more than 100 bytes"


@pytest.mark.parametrize("framing", [b"Content-Length: 5242880", b"Connection: close"])
async def test_five_megabytes_are_a_fault_and_are_not_read(framing: bytes) -> None:
    sent: list[int] = []

    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            try:
                for _ in range(80):
                    connection.sendall(b"x" * 65536)
                    sent.append(65536)
            except OSError:
                pass

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(BackendUnreachable) as caught:
                await post(client, backend.url)

    assert str(caught.value) == "the answer has more than 1048576 bytes"


@pytest.mark.parametrize("size", [5, 5_000_000])
async def test_an_answer_of_two_lengths_stays_bounded(size: int) -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection, suppress(OSError):
            backend.read(connection)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
                % size
            )
            for _ in range(80):
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(BackendUnreachable):
                await post(client, backend.url)


async def test_an_answer_before_the_whole_request_ends_the_connection() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            connection.recv(100)
            connection.sendall(ANSWER)
            backend.wait()
        with closing(backend.accept()) as another:
            backend.read(another)
            another.sendall(ANSWER)

    with raw_backend(script) as backend:
        async with http_client() as client:
            assert (await post(client, backend.url, b"x" * 8_000_000)).body == b"ok"
            backend.proceed.set()
            assert (await post(client, backend.url, b"2")).body == b"ok"

    assert backend.requests == [b"2"]


async def test_a_chunked_answer_and_one_that_ends_with_its_connection() -> None:
    async with http_backend() as backend, http_client() as client:

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            if request.path == "/chunked":
                response.enable_chunked_encoding()
            else:
                response.force_close()
            await response.prepare(request)
            await response.write(b"a" * 70_000)
            await response.write(b"b")
            return response

        backend.answer = answer
        for path in ("/chunked", "/closed"):
            assert (await post(client, backend.url + path)).body == b"a" * 70_000 + b"b"


async def test_no_backend_at_the_port() -> None:
    async with http_client() as client:
        with pytest.raises(BackendUnreachable, match="ClientConnectorError: Cannot connect"):
            await post(client, refusing_url())


@pytest.mark.parametrize(
    "host", ["backend.invalid", "a" * 64 + ".invalid", "a..invalid"], ids=["none", "long", "empty"]
)
async def test_no_address_of_the_name(host: str) -> None:
    async with http_client() as client:
        with pytest.raises(BackendUnreachable):
            await post(client, f"http://{host}/")


@pytest.mark.parametrize("timeout_s", [0.05, 0.1])
async def test_a_backend_that_does_not_answer_times_out(timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    with raw_backend(lambda backend: backend.wait()) as backend:
        async with http_client() as client:
            started = loop.time()
            with pytest.raises(IntegrationTimeout) as caught:
                await post(client, backend.url, timeout_s=timeout_s)

    assert timeout_s - 0.002 <= loop.time() - started < timeout_s + 1
    assert str(caught.value) == f"no answer in {timeout_s} s"


async def test_a_body_that_does_not_end_times_out() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha")
            backend.wait()

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(IntegrationTimeout):
                await post(client, backend.url, timeout_s=0.05)


async def test_a_connection_that_timed_out_is_closed() -> None:
    ended: list[bytes] = []

    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            ended.append(connection.recv(100))

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(IntegrationTimeout):
                await post(client, backend.url, timeout_s=0.05)
            await asyncio.to_thread(backend.done.wait, 5)
            assert ended == [b""]


async def test_a_call_that_is_cancelled_is_no_timeout() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            backend.done.set()
            backend.wait()

    with raw_backend(script) as backend:
        async with http_client() as client:
            call = asyncio.create_task(post(client, backend.url))
            await asyncio.to_thread(backend.done.wait, 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    ],
    ids=["nothing", "status", "head", "body", "chunk", "ssh", "length", "long line", "many lines"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_half_an_answer_and_what_is_none_are_faults_of_one_request(
    half: bytes, method: str
) -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(half)

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(BackendUnreachable):
                await client.send(method, backend.url, headers=[], body=b"1", timeout_s=5)

    assert backend.requests == [b"1"]


async def test_a_backend_that_switches_protocols_is_answered_no_more() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n")
            connection.sendall(b"Connection: Upgrade\r\n\r\n")
            assert connection.recv(100) == b""

    with raw_backend(script) as backend:
        async with http_client() as client:
            with pytest.raises(BackendUnreachable):
                await post(client, backend.url, timeout_s=5)


# What a backend does between two requests. Blocking the event loop until it is done makes sure that
# aiohttp knows nothing of it.


def end(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("close", [end, reset, half_close])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_message_is_lost_when_a_kept_alive_connection_is_closed(
    close: Any, method: str
) -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(ANSWER)
            backend.wait()
            close(connection)
            backend.done.set()
            with closing(backend.accept()) as another:
                backend.read(another)
                another.sendall(ANSWER)

    with raw_backend(script) as backend:
        async with http_client() as client:
            await client.send(method, backend.url, headers=[], body=b"1", timeout_s=5)
            backend.proceed.set()
            assert backend.done.wait(5)

            response = await client.send(method, backend.url, headers=[], body=b"2", timeout_s=5)

    assert response.body == b"ok"
    assert backend.requests == [b"1", b"2"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nor_when_it_is_closed_while_the_request_is_on_its_way(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection's end is there before the request, but looks as if it came later."""
    monkeypatch.setattr(resending, "_ENDED", frozenset())

    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(ANSWER)
            backend.wait()
        backend.done.set()
        with closing(backend.accept()) as another:
            backend.read(another)
            another.sendall(ANSWER)

    with raw_backend(script) as backend:
        async with http_client() as client:
            await client.send(method, backend.url, headers=[], body=b"1", timeout_s=5)
            backend.proceed.set()
            assert backend.done.wait(5)

            response = await client.send(method, backend.url, headers=[], body=b"2", timeout_s=5)

    assert response.body == b"ok"
    assert backend.requests == [b"1", b"2"]


async def test_many_kept_alive_connections_closed_at_once_lose_nothing() -> None:
    """As when a backend restarts."""
    count = 20

    def script(backend: RawBackend) -> None:
        connections = [backend.accept() for _ in range(count)]
        for connection in connections:
            backend.read(connection)
            connection.sendall(ANSWER)
        backend.wait()
        for connection in connections:
            connection.close()
        backend.done.set()
        for _ in range(count):
            with closing(backend.accept()) as connection:
                backend.read(connection)
                connection.sendall(ANSWER)

    with raw_backend(script) as backend:
        async with http_client() as client:
            await asyncio.gather(*(post(client, backend.url, b"1") for _ in range(count)))
            backend.proceed.set()
            assert backend.done.wait(5)

            answers = await asyncio.gather(*(post(client, backend.url, b"2") for _ in range(count)))

    assert [answer.body for answer in answers] == [b"ok"] * count
    assert backend.requests == [b"1"] * count + [b"2"] * count


async def test_where_the_kernel_does_not_tell_nothing_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resending, "_TCP_INFO", None)

    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(ANSWER)
            backend.wait()
        backend.done.set()

    with raw_backend(script) as backend:
        async with http_client() as client:
            await post(client, backend.url, b"1")
            backend.proceed.set()
            assert backend.done.wait(5)
            with pytest.raises(BackendUnreachable):
                await post(client, backend.url, b"2")

    assert backend.requests == [b"1"]


@pytest.mark.parametrize("close", [end, reset])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_was_read_is_not_sent_again(close: Any, method: str) -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(ANSWER)
            backend.read(connection)
            close(connection)

    with raw_backend(script) as backend:
        async with http_client() as client:
            await client.send(method, backend.url, headers=[], body=b"1", timeout_s=5)
            with pytest.raises(BackendUnreachable):
                await client.send(method, backend.url, headers=[], body=b"2", timeout_s=5)

    assert backend.requests == [b"1", b"2"]


async def test_a_backend_that_closes_every_connection_is_not_asked_for_ever() -> None:
    accepted: list[socket.socket] = []

    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(ANSWER)
            backend.wait()
        backend.done.set()
        with suppress(OSError):
            while True:
                accepted.append(backend.accept())
                accepted[-1].close()

    with raw_backend(script) as backend:
        async with http_client() as client:
            await post(client, backend.url)
            backend.proceed.set()
            assert backend.done.wait(5)
            with pytest.raises(BackendUnreachable):
                await post(client, backend.url)
        backend.stop()

    assert 1 <= len(accepted) <= 2
    assert backend.requests == [b"hi"]


@pytest.mark.slow
async def test_certificates_are_verified(tmp_path: Any) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with http_backend(tls) as backend:
        async with http_client() as client:
            with pytest.raises(BackendUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await post(client, backend.url)
        async with http_client(ca_file=certificate) as client:
            assert (await post(client, backend.url)).body == b"ok"
            assert (await post(client, backend.url)).body == b"ok"
            other_name = backend.url.replace("127.0.0.1", "127.0.0.2")
            with pytest.raises(BackendUnreachable):
                await post(client, other_name)

    assert len(set(backend.peers)) == 1


def test_a_file_without_certificates_is_refused(tmp_path: Any) -> None:
    empty = tmp_path / "ca.pem"
    with pytest.raises(OSError, match="No such file"):
        AioHttpClient(ca_file=empty)
    empty.write_text("nothing")
    with pytest.raises(ssl.SSLError):
        AioHttpClient(ca_file=empty)


async def test_a_client_that_was_never_used_can_be_closed() -> None:
    await AioHttpClient().close()
