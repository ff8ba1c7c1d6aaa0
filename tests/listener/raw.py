"""A client that sends what it likes, and sees what comes back as it is."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

TIMEOUT_S = 10.0

# The key and its answer in RFC 6455, 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0

UPGRADE_HEADERS = (
    b"Host: gateway",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return an HTTP request: its first line without the version, and header lines."""
    return b"\r\n".join((line + b" HTTP/1.1", *headers, b"", body))


def upgrade(target: bytes = b"/dev", *headers: bytes) -> bytes:
    """Return a WebSocket's opening handshake with more header lines."""
    return request(b"GET " + target, *UPGRADE_HEADERS, *headers)


def upgrade_without(name: bytes, *headers: bytes, line: bytes = b"GET /dev") -> bytes:
    """Return an opening handshake that lacks one header."""
    kept = [header for header in UPGRADE_HEADERS if not header.startswith(name + b":")]
    return request(line, *kept, *headers)


def frame(
    payload: bytes = b"", opcode: int = TEXT, *, fin: bool = True, masked: bool = True
) -> bytes:
    """Return one frame, masked with zeros as a client may."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", mask_bit | 126, size)
    else:
        head += struct.pack("!BQ", mask_bit | 127, size)
    return head + (bytes(4) if masked else b"") + payload


def close_frame(code: int | None = None, reason: str = "") -> bytes:
    return frame(b"" if code is None else struct.pack("!H", code) + reason.encode(), CLOSE)


class Frame(NamedTuple):
    """A frame from the gateway."""

    opcode: int
    payload: bytes
    fin: bool = True


class Response(NamedTuple):
    """A response; names as received."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the only value of a header."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None


class RawClient:
    """One TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self._loop.sock_sendall(self._sock, data)

    async def flood(self, data: bytes, size_max: int) -> int:
        """Send the same again and again, until so much is sent or the gateway breaks off.

        Returns:
            The number of bytes that were taken.
        """
        sent = 0
        try:
            while sent < size_max:
                await self.send(data)
                sent += len(data)
        except OSError:
            pass
        return sent

    def send_what_fits(self, data: bytes) -> int:
        """Send until the kernel takes no more; returns how much it took."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._sock.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
        return sent

    def has_received(self) -> bytes:
        """Return what is there now, without waiting and without taking it."""
        try:
            return self._buffer + self._sock.recv(1 << 16, socket.MSG_PEEK)
        except BlockingIOError:
            return self._buffer

    async def _more(self) -> bool:
        async with asyncio.timeout(TIMEOUT_S):
            data = await self._loop.sock_recv(self._sock, 1 << 18)
        self._buffer += data
        return bool(data)

    async def take(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        while len(self._buffer) < size:
            if not await self._more():
                raise EOFError(self._buffer)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def head(self) -> bytes:
        """Return a response's bytes up to its empty line."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                raise EOFError(self._buffer)
        head, separator, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head + separator

    async def response(self) -> Response:
        """Return a response whose body has a declared length, or none."""
        first, *lines = (await self.head()).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        bare = Response(int(first.split(" ")[1]), headers, b"")
        return bare._replace(body=await self.take(int(bare.header("Content-Length") or 0)))

    async def frame(self) -> Frame:
        """Return the next frame, which must not be masked."""
        first, second = await self.take(2)
        size = second
        if second == 126:
            (size,) = struct.unpack("!H", await self.take(2))
        elif second == 127:
            (size,) = struct.unpack("!Q", await self.take(8))
        return Frame(first & 0x0F, await self.take(size), bool(first & 0x80))

    async def ended(self) -> bytes:
        """Wait until the gateway has closed its side, politely or not; return what came before."""
        try:
            while await self._more():
                pass
        except ConnectionError:
            pass
        return self._buffer

    async def open_websocket(self, target: bytes = b"/dev", *headers: bytes) -> None:
        await self.send(upgrade(target, *headers))
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def subscript(self, data: bytes) -> Frame:
        """Send and return the frame that answers."""
        await self.send(data)
        return await self.frame()

    def end_sending(self) -> None:
        """Close the client's side only."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off."""
        reset(self._sock)

    def close(self) -> None:
        self._sock.close()


@asynccontextmanager
async def raw_client(
    port: int, *, receive_buffer: int | None = None, send_buffer: int | None = None
) -> AsyncIterator[RawClient]:
    """Connect.

    Args:
        port: On the loopback.
        receive_buffer: What the kernel keeps for a client that does not read.
        send_buffer: What it keeps for a gateway that does not.
    """
    with socket.socket() as sock:
        sock.setblocking(False)
        # What is sent is under way at once, also behind something that is not acknowledged yet.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield RawClient(sock)


def reset(sock: socket.socket) -> None:
    """Break a connection off."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def exchange(port: int, data: bytes) -> Response:
    """Send on a connection of its own and return the response."""
    async with raw_client(port) as client:
        await client.send(data)
        return await client.response()


async def eventually(condition: Callable[[], Any], what: str = "") -> None:
    """Wait until something holds, looking every few milliseconds."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - a condition is not an event
            await asyncio.sleep(0.002)


@contextmanager
def nothing_unhandled() -> Iterator[None]:
    """Fail if an exception reaches the event loop."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(before)
    assert not unhandled, unhandled
