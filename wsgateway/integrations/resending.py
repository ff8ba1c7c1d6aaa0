"""When is a request sent again?

A backend may close a connection that was kept open just when a request is on its way. RFC 9110,
9.2.2, lets no client send a POST again by itself, "unless it has some means to detect that the
original request was never applied". What the kernel counts is such means:

- The connection's end, or its reset, had arrived before the request was written. aiohttp looks at
  what the event loop has seen, which is older. Such a connection is left aside.
- The connection ended, and none of the request's bytes was sent.
- The connection ended, and none of them was acknowledged. What ends a connection (FIN) acknowledges
  all that has arrived until then, so the backend had closed before.

In these cases, and in no other, the request goes out on another connection. What is reset while a
request is on its way may have been read, and is not sent again: a reset acknowledges nothing. Nor
is anything where there is no TCP_INFO, which is Linux's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp

if TYPE_CHECKING:
    import asyncio

_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
# `tcpi_state`, `tcpi_bytes_acked` (since Linux 4.1) and `tcpi_bytes_sent` (since 4.19) in struct
# tcp_info of linux/tcp.h. Older systems write less, and zeros stay.
_INFO: Final = struct.Struct("=B119xQ72xQ")
# linux/tcp_states.h.
_TCP_CLOSE: Final = 7
_TCP_CLOSE_WAIT: Final = 8
_ENDED = frozenset({_TCP_CLOSE, _TCP_CLOSE_WAIT})

# State, bytes acknowledged, bytes sent.
_TcpInfo: TypeAlias = tuple[int, int, int]


class NoAnswer(Exception):
    """The connection ended before the answer began."""


class Unreceived(NoAnswer):
    """The connection had ended before any byte of the request was there; it can be sent again."""


class Delivery:
    """Watches a connection from before a request is written until the answer begins.

    Where the connection ends in between, the block ends with `Unreceived` or `NoAnswer`.
    """

    __slots__ = ("_before", "_descriptor", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._before: _TcpInfo = (0, 0, 0)
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        if _TCP_INFO is None:
            return
        its_socket: socket.socket = self._transport.get_extra_info("socket")
        self._before = _tcp_info(its_socket)
        if self._before[0] in _ENDED:
            raise Unreceived("the connection had ended before the request was written")
        # The transport closes its own descriptor as soon as the connection ends.
        self._descriptor = os.dup(its_socket.fileno())

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        descriptor = self._descriptor
        try:
            if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                kind = NoAnswer
                if descriptor is not None and self._never_arrived(descriptor, error):
                    kind = Unreceived
                raise kind(f"{type(error).__name__}: {error}") from error
        finally:
            if descriptor is not None:
                # As long as there is a second descriptor, closing the first ends no connection.
                os.close(descriptor)

    def _never_arrived(
        self, descriptor: int, error: aiohttp.ServerDisconnectedError | aiohttp.ClientOSError
    ) -> bool:
        _, acked_before, sent_before = self._before
        with socket.socket(fileno=os.dup(descriptor)) as its_socket:
            _, acked, sent = _tcp_info(its_socket)
        # On a connection that was kept open something was sent before, unless it is not counted.
        return sent_before > 0 and (
            sent == sent_before or (acked == acked_before and _is_end(error))
        )


def _tcp_info(of: socket.socket) -> _TcpInfo:
    assert _TCP_INFO is not None, "asked only where there is one"
    info = of.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
    state, acked, sent = _INFO.unpack(info.ljust(_INFO.size, b"\0"))
    return state, acked, sent


def _is_end(error: aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) -> bool:
    # Writing when the other side's end has come is EPIPE; ECONNRESET is its reset.
    return isinstance(error, aiohttp.ServerDisconnectedError) or error.errno == errno.EPIPE
