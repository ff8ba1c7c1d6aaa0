"""A WebSocket client that costs so little that a test can have thousands."""

from __future__ import annotations

import asyncio
import struct

_MASKED = 0x80
_TEXT, _CLOSE = 1, 8
_TIMEOUT_S = 15.0
_SIZE_IN_TWO_BYTES, _SIZE_IN_EIGHT_BYTES = 126, 127


class Client(asyncio.Protocol):
    """One connection. Frames from the gateway are whole messages here: none is fragmented.

    Args:
        target: The path to ask for.
        answers_close: Whether it ends a closing handshake that the gateway begins.

    Attributes:
        status: Resolves to the handshake's status.
        closed: Resolves to code and reason of the gateway's close frame, or to None if the socket
            was lost without one.
        messages: What was received, before the end of the connection.
    """

    def __init__(self, target: str, *, answers_close: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.status: asyncio.Future[int] = loop.create_future()
        self.closed: asyncio.Future[tuple[int, str] | None] = loop.create_future()
        self.messages: list[str] = []
        self._target = target
        self._answers_close = answers_close
        self._closing = False
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(
            f"GET {self._target} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.status.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            self._data = rest
            self.status.set_result(int(head.split(b" ", 2)[1]))
        while self.status.result() == 101 and self._take_frame():
            pass

    def _take_frame(self) -> bool:
        data = self._data
        if len(data) < 2:
            return False
        size, start = data[1], 2
        if size == _SIZE_IN_TWO_BYTES:
            [size], start = struct.unpack_from("!H", data, 2), 4
        elif size == _SIZE_IN_EIGHT_BYTES:
            [size], start = struct.unpack_from("!Q", data, 2), 10
        payload, self._data = data[start : start + size], data[start + size :]
        if len(payload) < size:
            self._data = data
            return False
        if data[0] & 0x0F == _TEXT:
            self.messages.append(payload.decode())
        elif data[0] & 0x0F == _CLOSE:
            self.closed.set_result((int.from_bytes(payload[:2]), payload[2:].decode()))
            if self._answers_close and not self._closing:
                self._write(_CLOSE, payload)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(exc or ConnectionResetError())
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, text: str) -> None:
        self._write(_TEXT, text.encode())

    def close(self) -> None:
        """Begin the closing handshake."""
        self._closing = True
        self._write(_CLOSE, (1000).to_bytes(2))

    def _write(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        size = len(payload)
        if size < _SIZE_IN_TWO_BYTES:
            head = struct.pack("!BB", 0x80 | opcode, _MASKED | size)
        else:
            head = struct.pack("!BBH", 0x80 | opcode, _MASKED | _SIZE_IN_TWO_BYTES, size)
        # The masking key is zero, so that the payload is its own masked form.
        self._transport.write(head + bytes(4) + payload)


async def open_client(
    port: int, target: str = "/dev", *, source: str = "127.0.0.1", answers_close: bool = True
) -> Client:
    """Connect and wait for the handshake's answer, whatever it is.

    Args:
        port: On loopback.
        target: The path to ask for.
        source: The client's address; each has as many ports as the machine gives out.
        answers_close: As `Client`.
    """
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(target, answers_close=answers_close),
        "127.0.0.1",
        port,
        local_addr=(source, 0),
    )
    async with asyncio.timeout(_TIMEOUT_S):
        await client.status
    return client


async def open_clients(port: int, count: int, *, at_once: int = 100) -> list[Client]:
    """Connect many clients, from several addresses; each must be let in."""
    clients: list[Client] = []
    for start in range(0, count, at_once):
        source = f"127.0.0.{1 + start // 1000}"
        batch = range(start, min(start + at_once, count))
        clients += await asyncio.gather(*(open_client(port, source=source) for _ in batch))
    assert {client.status.result() for client in clients} == {101}
    return clients
