"""A client's connection, from the handshake's verdict to the end of its socket.

The socket is not read before the verdict. After it, each message is one task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog
from websockets.frames import CloseCode
from websockets.protocol import SEND_EOF, State

from wsgateway.answers import error_body
from wsgateway.connection_id import ENTROPY_SIZE, new_request_id
from wsgateway.contracts import ConnectionInfo, Rejected
from wsgateway.errors import Gone, IntegrationFault, LimitExceeded
from wsgateway.limits import WAITING_OVERHEAD
from wsgateway.listener.handshake import rejection, switching_protocols
from wsgateway.listener.wire import Wire

if TYPE_CHECKING:
    from wsgateway.connection import ConnectionEntry, Handshake
    from wsgateway.listener.shared import Shared

log = structlog.stdlib.get_logger(__name__)

_GOING_AWAY = (int(CloseCode.GOING_AWAY), "Going away")


class OpeningHandshake(asyncio.Protocol):
    """The socket while `$connect` decides: nothing is read, and nothing written.

    Args:
        accept: The `Sec-WebSocket-Accept` of the answer.
        tail: What the client sent behind its request.
    """

    def __init__(
        self,
        shared: Shared,
        transport: asyncio.Transport,
        handshake: Handshake,
        accept: bytes,
        tail: bytes,
    ) -> None:
        self._shared = shared
        self._transport = transport
        self._handshake = handshake
        self._accept = accept
        self._tail = tail
        transport.pause_reading()
        transport.set_protocol(self)
        shared.start(self._decide())

    async def _decide(self) -> None:
        shared, transport = self._shared, self._transport
        try:
            verdict = await shared.dispatch.connect(self._handshake)
        except asyncio.CancelledError:
            transport.abort()
            raise
        except Exception:
            log.exception("connect failed", source_ip=self._handshake.source_ip)
            verdict = Rejected(
                IntegrationFault.status,
                IntegrationFault.error_type,
                error_body(IntegrationFault.message),
                new_request_id(shared.entropy(ENTROPY_SIZE)),
            )
        if isinstance(verdict, Rejected):
            if not transport.is_closing():
                transport.write(rejection(verdict, shared.date, shared.entropy))
                Farewell(shared, transport)
        elif transport.is_closing():
            # The client left meanwhile: it was let in, so its end is told.
            await _disconnect(shared, verdict.entry, int(CloseCode.ABNORMAL_CLOSURE), "")
        else:
            transport.write(switching_protocols(self._accept, verdict.subprotocol, shared.date))
            WebSocket(shared, transport, verdict.entry).begin(self._tail)


class Farewell(asyncio.Protocol):
    """A socket whose last answer is written: it is read, for a while, so that the answer arrives.

    Closing a socket with unread bytes resets it, and the peer may lose what we wrote last
    (RFC 9112, 9.6).
    """

    __slots__ = ("_shared", "_transport", "bucket")

    def __init__(self, shared: Shared, transport: asyncio.Transport) -> None:
        self._shared = shared
        self._transport = transport
        self.bucket = -1
        transport.set_protocol(self)
        _end_writing(transport)
        transport.resume_reading()
        shared.farewells.add(transport)
        shared.deadlines.watch(self, shared.clock.monotonic_s() + shared.limits.close_timeout_s)

    def visit(self, now_s: float) -> float | None:  # noqa: ARG002 - its only deadline
        """Give up."""
        self._transport.abort()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Forget the socket."""
        self._shared.farewells.discard(self._transport)
        self._shared.deadlines.forget(self)


class WebSocket(asyncio.Protocol):
    """An open connection.

    Messages: at most `in_flight_max` are handled at once, the next ones wait, and when those
    that wait pass `waiting_size_max` bytes the socket is not read. So pings and closes are
    answered as long as messages fit in the waiting room.

    A breach of the protocol takes nothing away from the messages before it: our close frame for it
    is held back until they are answered, for as long as a closing handshake may take.
    """

    __slots__ = (
        "_close_by_s",
        "_held_back",
        "_in_flight",
        "_last_active_at_s",
        "_leaving",
        "_open_until_s",
        "_reading",
        "_replies",
        "_shared",
        "_transport",
        "_waiting",
        "_waiting_size",
        "_wire",
        "_write_paused",
        "bucket",
        "entry",
    )

    def __init__(
        self, shared: Shared, transport: asyncio.Transport, entry: ConnectionEntry
    ) -> None:
        limits = shared.limits
        now_s = shared.clock.monotonic_s()
        self.entry = entry
        self.bucket = -1
        self._shared = shared
        self._transport = transport
        self._wire = Wire(
            message_size_max=limits.message_size_max, frame_size_max=limits.frame_size_max
        )
        self._last_active_at_s = now_s
        self._open_until_s = now_s + limits.connection_duration_max_s
        self._close_by_s: float | None = None
        self._held_back = False
        self._in_flight = 0
        self._replies: list[bytes] = []
        self._leaving = False
        self._waiting: deque[str] | None = None
        self._waiting_size = 0
        self._reading = True
        self._write_paused = False

    def begin(self, tail: bytes) -> None:
        """Start reading; the 101 is written.

        Args:
            tail: What the client sent behind its request.
        """
        shared, transport = self._shared, self._transport
        transport.set_protocol(self)
        shared.hub.add(self)
        shared.websockets_open += 1
        shared.deadlines.watch(self, self._next_deadline_s())
        transport.resume_reading()
        if tail:
            self.data_received(tail)

    # --- from the socket

    def data_received(self, data: bytes) -> None:
        """Take bytes in; starts a task for each message that may start."""
        wire = self._wire
        wire.receive_data(data)
        if wire.messages:
            messages, wire.messages = wire.messages, []
            self._last_active_at_s = self._shared.clock.monotonic_s()
            for message in messages:
                self._take(message)
        if wire.writes and not self._held_back:
            if self._in_flight and self._close_by_s is None and wire.failed():
                self._hold_back()
            else:
                self._flush()

    def eof_received(self) -> None:
        """The client sends no more; the transport closes by itself when all is written."""
        self._wire.receive_eof()
        if self._held_back:
            self._release()
        self._begin_closing()

    def pause_writing(self) -> None:
        """The client does not read: do not read more from it, for each ping is an answer."""
        self._write_paused = True
        self._read_if_wanted()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_paused = False
        self._read_if_wanted()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - 1006 whatever it was
        """The socket is gone: `$disconnect`."""
        shared = self._shared
        shared.hub.discard(self.entry.key)
        shared.deadlines.forget(self)
        shared.websockets_open -= 1
        code, reason = self._wire.outcome()
        # Messages may still be at work, and reply.
        self._wire.state = State.CLOSED
        self._held_back = False
        self._replies.clear()
        shared.start(_disconnect(shared, self.entry, code, reason))

    # --- from the node

    def send(self, payload: bytes) -> None:
        """Write one text message, in frames of at most 32 KiB.

        Raises:
            Gone: The closing handshake has begun.
            LimitExceeded: The client does not read, and its buffer is full.
        """
        wire, limits = self._wire, self._shared.limits
        # While the close frame is held back only replies come here: posts ask the hub first.
        if wire.state is not State.OPEN and not self._held_back:
            raise Gone
        unsent = self._transport.get_write_buffer_size() + sum(map(len, self._replies))
        # Frame heads do not count: the smallest bound still takes the largest message.
        if unsent + len(payload) > limits.send_buffer_max:
            raise LimitExceeded
        if self._in_flight > 1 or self._replies:
            # Replies to messages that came together are often ready in the same turn of the event
            # loop; one write for all of them saves a system call each, the dearest part of a reply.
            if not self._replies:
                self._shared.loop.call_soon(self._write_replies)
            self._replies.append(wire.text_frames(payload))
        else:
            self._transport.write(wire.text_frames(payload))
        self._last_active_at_s = self._shared.clock.monotonic_s()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self._wire.state is State.OPEN:
            self._wire.send_close(code, reason)
            self._flush()

    def leave(self) -> None:
        """Close with 1001 once the messages taken are answered; no more are read."""
        self._leaving = True
        if self._in_flight == 0:
            self.close(*_GOING_AWAY)
        else:
            self._read_if_wanted()

    def info(self) -> ConnectionInfo:
        """Tell what a backend may know."""
        clock = self._shared.clock
        idle_ms = int((clock.monotonic_s() - self._last_active_at_s) * 1000)
        return ConnectionInfo(
            connected_at_ms=self.entry.connected_at_ms,
            last_active_at_ms=max(self.entry.connected_at_ms, clock.epoch_ms() - idle_ms),
            source_ip=self.entry.source_ip,
            user_agent=self.entry.user_agent,
        )

    def visit(self, now_s: float) -> float | None:
        """Close what has idled too long, lived too long, or does not finish closing."""
        if now_s >= self._next_deadline_s():
            if self._held_back:
                self._release()
            elif self._close_by_s is not None:
                self._transport.abort()
                return None
            else:
                self.close(*_GOING_AWAY)
        return self._next_deadline_s()

    # --- inside

    def _next_deadline_s(self) -> float:
        if self._close_by_s is not None:
            return self._close_by_s
        return min(self._open_until_s, self._last_active_at_s + self._shared.limits.idle_timeout_s)

    def _write_replies(self) -> None:
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()

    def _hold_back(self) -> None:
        """Keep our close frame for a breach, and the end behind it, until `_release`."""
        self._held_back = True
        writes, self._wire.writes = self._wire.writes[:-2], self._wire.writes[-2:]
        if writes:  # pongs
            self._transport.write(b"".join(writes))
        self._begin_closing()

    def _release(self) -> None:
        self._held_back = False
        if self._transport.is_closing():
            return  # Writing has failed, and connection_lost() is on its way.
        # What the messages took of the client's time to leave is given back.
        self._close_by_s = None
        self._flush()

    def _flush(self) -> None:
        self._write_replies()
        wire = self._wire
        writes = wire.data_to_send()
        ended = writes[-1:] == [SEND_EOF]
        if ended:
            writes.pop()
        if writes:
            self._transport.write(writes[0] if len(writes) == 1 else b"".join(writes))
        if wire.state is not State.OPEN:
            self._closing(ended=ended)

    def _begin_closing(self) -> None:
        if self._close_by_s is not None:
            return
        shared = self._shared
        shared.hub.discard(self.entry.key)
        self._close_by_s = shared.clock.monotonic_s() + shared.limits.close_timeout_s
        shared.deadlines.watch(self, self._close_by_s)
        # Read on, to find the closing frame or to throw bytes away: a socket that is closed
        # on unread bytes resets, and the peer may lose our last frame.
        self._read_if_wanted()

    def _closing(self, *, ended: bool) -> None:
        transport = self._transport
        self._begin_closing()
        if ended and self._wire.close_rcvd is not None:
            transport.close()
        elif ended:
            _end_writing(transport)

    def _take(self, message: str) -> None:
        if self._in_flight < self._shared.limits.in_flight_max:
            self._start(message)
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(message)
        self._waiting_size += _waiting_size(message)
        self._read_if_wanted()

    def _start(self, message: str) -> None:
        self._in_flight += 1
        shared = self._shared
        # Not shared.start(): a callback at the task's end is another turn of the event loop.
        task = shared.loop.create_task(self._handle(message))
        shared.tasks.add(task)

    async def _handle(self, message: str) -> None:
        try:
            await self._shared.dispatch.message(self, message)
        except asyncio.CancelledError:
            # The gateway gives up; those that wait would only begin now.
            self._waiting = None
            raise
        except Exception:
            log.exception("message failed", connection_id=self.entry.key.connection_id)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._shared.tasks.discard(task)
            self._in_flight -= 1
            if self._waiting:
                waiting = self._waiting.popleft()
                self._waiting_size -= _waiting_size(waiting)
                self._start(waiting)
                self._read_if_wanted()
            elif self._in_flight == 0:
                if self._held_back:
                    self._release()
                elif self._leaving:
                    self.close(*_GOING_AWAY)

    def _read_if_wanted(self) -> None:
        wanted = self._close_by_s is not None or (
            not self._write_paused
            and not self._leaving
            and self._waiting_size <= self._shared.limits.waiting_size_max
        )
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def _end_writing(transport: asyncio.Transport) -> None:
    if transport.can_write_eof():
        transport.write_eof()
    else:
        # TLS is closed in both directions at once; what still comes is read and thrown away until
        # the peer has closed its side too, or the listener's time for that is over.
        transport.close()


async def _disconnect(shared: Shared, entry: ConnectionEntry, code: int, reason: str) -> None:
    try:
        await shared.dispatch.disconnect(entry, code, reason)
    except Exception:
        log.exception("disconnect failed", connection_id=entry.key.connection_id)


def _waiting_size(message: str) -> int:
    return len(message.encode()) + WAITING_OVERHEAD
