"""What the load generator does to a server, a class per row, with what it checks on the way."""

from __future__ import annotations

import asyncio
import socket
import time
from array import array
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from urllib.parse import quote

from httptools import HttpResponseParser
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.callers import COUNT, counter
from bench.measure import BenchError, cpu_us, redis_of, rss_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

HOST = "127.0.0.1"
MESSAGE_SIZE = 100
OK = 200
OPENING = 100  # handshakes under way at once when connections are only to be held
# Of about 28,000 ports (net.ipv4.ip_local_port_range) Linux tries every second one first. When those
# are taken, each further connection costs the generator a search of milliseconds.
FROM_ONE_ADDRESS = 10_000
IP_BIND_ADDRESS_NO_PORT = 24  # of Linux's in.h; the port is chosen when it is known who is called
ANSWER_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 10.0


def message(action: str) -> bytes:
    """A JSON message of `MESSAGE_SIZE` bytes."""
    head = b'{"action":"%s","data":"' % action.encode()
    return head + b"x" * (MESSAGE_SIZE - len(head) - 2) + b'"}'


async def until(condition: Callable[[], bool]) -> None:
    """Waits for `condition`, but not for ever: the caller looks at what came of it."""
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # An event would be one more thing to do per operation.


class Job(Protocol):
    """What one row does to a server. A row's operation is counted in `done`."""

    @property
    def done(self) -> int: ...

    async def open(self) -> dict[str, Any]:
        """Connects; what it returns is reported."""

    def start(self) -> None:
        """Starts load, to be kept up until `finish`."""

    async def finish(self) -> None:
        """Ends load, waits for what is under way, and raises `BenchError` if anything was wrong."""


class Client(WSListener):
    """A WebSocket connection that knows whether and why it was lost."""

    transport: WSTransport
    lost: str | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        if frame.msg_type is WSMsgType.CLOSE:
            # The server closes the TCP connection, as RFC 6455 section 7.1.1 asks.
            self.lost = f"close {frame.get_close_code()} {frame.get_close_reason()!r}"
        else:
            self.received(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002
        self.lost = self.lost or "connection lost"

    def received(self, frame: WSFrame) -> None:
        """A data frame came."""


ClientT = TypeVar("ClientT", bound=Client)


async def connect(port: int, client: ClientT, **options: Any) -> ClientT:
    try:
        await ws_connect(lambda: client, f"ws://{HOST}:{port}/dev", **options)
    except (OSError, WSError) as error:
        raise BenchError(f"could not connect: {error!r}") from error
    return client


def socket_from(address: str, _url: object) -> socket.socket:
    """A socket for a connection from another address than 127.0.0.1, which has other ports."""
    made = socket.socket()
    made.setblocking(False)  # noqa: FBT003 - the socket module's
    made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((address, 0))
    return made


class Asking(Client):
    """A connection for one question at a time."""

    answer: asyncio.Future[str] | None = None

    async def ask(self, action: str) -> str:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, message(action))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self.answer
        except TimeoutError:
            raise BenchError(f"no answer to {action} ({self.lost or 'still connected'})") from None
        finally:
            self.answer = None

    def received(self, frame: WSFrame) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(frame.get_payload_as_utf8_text())


class Echoing(Client):
    """Sends a message for each that comes back, as long as the job runs."""

    def __init__(self, job: Messages) -> None:
        self.job = job

    def received(self, frame: WSFrame) -> None:
        job = self.job
        if (answer := frame.get_payload_as_bytes()) != job.message:
            job.fault = f"not the message that was sent came back: {answer[:200]!r}"
        job.done += 1
        if job.running:
            self.transport.send(WSMsgType.TEXT, job.message)
        else:
            job.in_flight -= 1


class Messages:
    """A window of messages under way on each of some connections."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.done = 0
        self.in_flight = 0
        self.running = False
        self.fault: str | None = None
        self.message = message("echo")
        self.clients: list[Echoing] = []

    async def open(self) -> dict[str, Any]:
        ports = self.options.ports
        for n in range(self.options.connections):
            self.clients.append(await connect(ports[n % len(ports)], Echoing(self)))
        return {}

    def start(self) -> None:
        self.running = True
        self.in_flight = self.options.window * len(self.clients)
        for client in self.clients:
            for _ in range(self.options.window):
                client.transport.send(WSMsgType.TEXT, self.message)

    async def finish(self) -> None:
        self.running = False
        await until(lambda: self.in_flight <= 0)
        if lost := [client.lost for client in self.clients if client.lost]:
            raise BenchError(f"{len(lost)} connections were lost: {lost[0]}")
        if self.fault:
            raise BenchError(self.fault)
        if self.in_flight:
            raise BenchError(f"{self.in_flight} messages were not answered")


class Sink(Asking):
    """The connection that posts go to: each must arrive as one frame with the posted bytes."""

    def __init__(self, job: Posts) -> None:
        self.job = job

    def received(self, frame: WSFrame) -> None:
        if self.answer is not None:
            super().received(frame)
        elif frame.get_payload_as_bytes() == self.job.body:
            self.job.frames += 1
        else:
            self.job.fault = f"not what was posted came: {frame.get_payload_as_bytes()[:200]!r}"


class Poster(asyncio.Protocol):
    """A keep-alive HTTP connection that posts again as soon as it is answered 200."""

    transport: asyncio.Transport

    def __init__(self, job: Posts, request: bytes) -> None:
        self.job = job
        self.request = request
        self.parser = HttpResponseParser(self)
        self.waiting = False
        self.begun_at = 0.0
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.job.fault = self.job.fault or f"an HTTP connection was closed: {exc}"

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def post(self) -> None:
        self.waiting = True
        self.begun_at = time.perf_counter()
        self.transport.write(self.request)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.waiting = False
        if (status := self.parser.get_status_code()) != OK:
            self.job.fault = f"POST was answered {status} {self.body[:200]!r}"
            return
        self.job.done += 1
        self.job.latencies.append(time.perf_counter() - self.begun_at)
        if self.job.running:
            self.post()


class Posts:
    """One request under way on each of some keep-alive HTTP connections."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.done = 0
        self.frames = 0
        self.running = False
        self.fault: str | None = None
        self.body = message("post")
        self.latencies = array("d")  # in seconds, of the posts of this round
        self.sinks: list[Sink] = []
        self.posters: list[Poster] = []

    async def open(self) -> dict[str, Any]:
        ports = self.options.ports
        sink_ports = self.options.sink_ports or ports
        for n in range(self.options.connections):
            port = ports[n % len(ports)]
            # Without WebSockets, an id of the same shape.
            connection_id = f"AAAAAAAAAAACA{n:02}="
            if self.options.sinks:
                sink_port = sink_ports[n % len(sink_ports)]
                self.sinks.append(sink := await connect(sink_port, Sink(self)))
                connection_id = await sink.ask("whoami")
            head = (
                f"POST /dev/@connections/{quote(connection_id, safe='')} HTTP/1.1\r\n"
                f"Host: {HOST}:{port}\r\nContent-Length: {len(self.body)}\r\n\r\n"
            )
            request = head.encode() + self.body
            make = partial(Poster, self, request)
            _, poster = await asyncio.get_running_loop().create_connection(make, HOST, port)
            self.posters.append(poster)
        return {}

    def start(self) -> None:
        self.running = True
        del self.latencies[:]
        for poster in self.posters:
            poster.post()

    async def finish(self) -> None:
        self.running = False
        await until(lambda: not any(p.waiting for p in self.posters) or bool(self.fault))
        if self.sinks:
            await until(lambda: self.frames >= self.done or bool(self.fault))
        if self.fault:
            raise BenchError(self.fault)
        if waiting := sum(p.waiting for p in self.posters):
            raise BenchError(f"{waiting} posts were not answered")
        if self.sinks and self.frames != self.done:
            raise BenchError(f"{self.done} posts were answered 200, {self.frames} frames came")


class Visitor(asyncio.Protocol):
    """One connection from the opening to the closing handshake.

    Written by hand because a picows client spends more on it than the server does. The key, and so
    what is to be answered, is the example of RFC 6455, section 1.2.
    """

    KEY = "dGhlIHNhbXBsZSBub25jZQ=="
    ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    MASKED_CLOSE = b"\x88\x82\x01\x02\x03\x04" + bytes((0x03 ^ 0x01, 0xE8 ^ 0x02))
    CLOSE = b"\x88\x02\x03\xe8"

    transport: asyncio.Transport

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.head = b""
        self.rest = b""
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.head.endswith(b"\r\n\r\n"):
            self.rest += data
            return
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            self.transport.write(self.MASKED_CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.gone.done():
            self.gone.set_result(None)

    def check(self) -> None:
        if not self.head.startswith(b"HTTP/1.1 101 ") or self.ACCEPT not in self.head:
            raise BenchError(f"the handshake was answered {self.head[:200]!r}")
        if self.rest != self.CLOSE:
            raise BenchError(f"close 1000 was answered {self.rest[:200]!r}")


class Connects:
    """Some connections that open, say goodbye and wait to be closed, over and over."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.done = 0
        self.running = False
        self.cycles: list[asyncio.Task[None]] = []

    async def open(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        self.running = True
        ports = self.options.ports
        self.cycles = [
            asyncio.create_task(self.cycle(ports[n % len(ports)]))
            for n in range(self.options.connections)
        ]

    async def cycle(self, port: int) -> None:
        request = (
            f"GET /dev HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {Visitor.KEY}\r\n\r\n"
        ).encode()
        loop, make = asyncio.get_running_loop(), partial(Visitor, request)
        while self.running:
            _, visitor = await loop.create_connection(make, HOST, port)
            await visitor.gone
            visitor.check()
            self.done += 1

    async def finish(self) -> None:
        self.running = False
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*self.cycles)
        except TimeoutError:
            raise BenchError(f"a connection was not closed in {CLOSE_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise BenchError(f"could not connect: {error!r}") from error


class Idle:
    """Connections that do nothing, and what they weigh."""

    WARM_UP = 50

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.done = 0
        self.clients: list[Client] = []
        self.collectors: list[Asking] = []
        self.empty = 0  # the server's weight before the first connection

    async def open(self) -> dict[str, Any]:
        """Connects and weighs the server before and after, when it has settled.

        Again, with a larger number of connections, it opens those that lack.
        """
        if not self.collectors:
            await self.warm_up()
            self.empty = await self.settled_rss()
        held = len(self.clients)
        begun_at, cpu = time.perf_counter(), cpu_us(self.options.pid)
        await self.connect_many(self.options.connections)
        opening = {
            "opened": len(self.clients) - held,
            "opening_s": time.perf_counter() - begun_at,
            "opening_us": cpu_us(self.options.pid) - cpu,
        }
        after = await self.settled_rss()
        self.check()
        return opening | {
            "rss_before": self.empty,
            "rss_after": after,
            "connections": len(self.clients),
        }

    async def warm_up(self) -> None:
        ports = self.options.ports
        self.collectors = [await connect(port, Asking()) for port in ports]
        await self.connect_many(self.WARM_UP * len(ports))
        for client in self.clients:
            client.transport.send_close(WSCloseCode.OK)
            await client.transport.wait_disconnected()
        self.clients.clear()

    async def connect_many(self, count: int) -> None:
        """Opens connections until there are so many, as many at each port as at the others."""
        ports = self.options.ports
        remaining = iter(range(len(self.clients), count))

        async def worker() -> None:
            for n in remaining:
                client = Client()
                await connect(
                    ports[n % len(ports)],
                    client,
                    # Small, so that the generator's memory is not what bounds the row.
                    read_buffer_init_size=256,
                    socket_factory=partial(socket_from, f"127.0.0.{2 + n // FROM_ONE_ADDRESS}"),
                )
                self.clients.append(client)

        await asyncio.gather(*(worker() for _ in range(OPENING)))

    async def settled_rss(self) -> int:
        """RSS after a garbage collection, once it has stopped changing."""
        for collector in self.collectors:
            await collector.ask("collect")
        weight = self.rss()
        for _ in range(20):
            await asyncio.sleep(0.25)
            last, weight = weight, self.rss()
            if abs(weight - last) < 64 * 1024:
                break
        return weight

    def rss(self) -> int:
        """The server's; Redis is weighed by asking it."""
        redis = redis_of(self.options.pid)
        return rss_bytes(self.options.pid) - (0 if redis is None else rss_bytes(redis))

    def check(self) -> None:
        if lost := [client.lost for client in self.clients if client.lost]:
            raise BenchError(f"{len(lost)} idle connections were lost: {lost[0]}")

    def start(self) -> None:
        """Idle is what they are."""

    async def finish(self) -> None:
        self.check()


class Calls:
    """Calls that a caller makes by itself, as many under way as there would be messages."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.stack = ExitStack()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    @property
    def done(self) -> int:
        count: int = COUNT.unpack(self.count[: COUNT.size])[0]
        return count

    async def open(self) -> dict[str, Any]:
        self.count = self.stack.enter_context(counter(self.options.port))
        self.reader, self.writer = await asyncio.open_connection(HOST, self.options.port)
        return {}

    def start(self) -> None:
        under_way = self.options.window * self.options.connections
        self.writer.write(b"run %d %b\n" % (under_way, message("echo")))

    async def finish(self) -> None:
        self.writer.write(b"halt\n")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await self.reader.readline()
        if answer != b"done\n":
            raise BenchError(f"a call failed: {answer.decode().strip()}")


JOBS: dict[str, type[Messages | Posts | Connects | Idle | Calls]] = {
    "message": Messages,
    "calls": Calls,
    "post": Posts,
    "connect": Connects,
    "idle": Idle,
}
