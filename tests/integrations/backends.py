"""Backends on free ports: an application that records what it gets, and sockets that misbehave."""

from __future__ import annotations

import socket
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from ssl import SSLContext

TIMEOUT_S = 10.0

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Received(NamedTuple):
    """A request as it was written."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        [value] = [v for n, v in self.headers if n.lower() == name.lower()]
        return value

    def without_host(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers if name != "Host"]


@dataclass
class Backend:
    """An application that answers what it is told to.

    Attributes:
        received: The requests, in order.
        peers: The port of the connection that each came on.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b"ok"
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername")[1])
        self.received.append(
            Received(
                f"{request.method} {request.raw_path}",
                [(n.decode(), v.decode("latin-1")) for n, v in request.raw_headers],
                await request.read(),
            )
        )
        if self.answer is not None:
            return await self.answer(request)
        response = web.Response(status=self.status, body=self.body)
        for name, value in self.headers:
            response.headers.add(name, value)
        return response


@asynccontextmanager
async def http_backend(tls: SSLContext | None = None) -> AsyncIterator[Backend]:
    """Serve an application in the test's event loop."""
    backend = Backend()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", backend.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=tls).start()
    backend.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield backend
    finally:
        await runner.cleanup()


class RawBackend:
    """A listening socket in a thread: what it does happens whether the event loop runs or not."""

    def __init__(self, listening: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.proceed = threading.Event()
        self.done = threading.Event()
        self._listening = listening

    def accept(self) -> socket.socket:
        accepted, _ = self._listening.accept()
        accepted.settimeout(TIMEOUT_S)
        return accepted

    def read(self, connection: socket.socket) -> bytes:
        """Read one request with a `Content-Length`; empty when the connection ended."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < size:
            body += connection.recv(65536)
        self.requests.append(body)
        return head

    def stop(self) -> None:
        """Accept nothing more; `accept` raises OSError."""
        self._listening.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        assert self.proceed.wait(TIMEOUT_S)


@contextmanager
def raw_backend(script: Callable[[RawBackend], None]) -> Iterator[RawBackend]:
    """Run a script in a thread until it ends; what it raises fails the test."""
    errors: list[BaseException] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(TIMEOUT_S)
        backend = RawBackend(listening)

        def run() -> None:
            try:
                script(backend)
            except BaseException as error:  # noqa: BLE001 - raised in the test
                errors.append(error)
            finally:
                backend.done.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield backend
        finally:
            backend.proceed.set()
            thread.join(TIMEOUT_S)
    if errors:
        raise errors[0]


def refusing_url() -> str:
    """Return the URL of a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"
