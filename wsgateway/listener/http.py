"""HTTP on the gateway's port: uvicorn's protocol with bounds, deadlines and our own upgrade.

What uvicorn leaves unbounded is bounded here: head, header lines, URL, time for head and body,
pipelined requests, bytes of a body nobody wants. Header names keep their case for the handshake.
The internals of uvicorn that are overridden are pinned by `tests/listener/test_uvicorn_seam.py`.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wsgateway.connection import Handshake
from wsgateway.errors import (
    BadRequest,
    HeadTooLarge,
    PayloadTooLarge,
    RequestRefused,
    RequestTimeout,
    UriTooLong,
)
from wsgateway.limits import BODY_DISCARD_MAX, PIPELINE_MAX, URL_SIZE_MAX
from wsgateway.listener.exchange import Exchange
from wsgateway.listener.handshake import (
    accept_key,
    has_body,
    only_host,
    origin_form,
    refusal,
    wants_websocket,
)
from wsgateway.listener.websocket import Farewell, OpeningHandshake

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from wsgateway.listener.shared import Shared


_VERSIONS = ("1.0", "1.1")
_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")


class _Phase(Enum):
    """What the connection waits for."""

    IDLE = auto()  # the next request, on a connection that has had one
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()


class Http(HttpToolsProtocol):
    """One HTTP connection, until it is closed or becomes a WebSocket."""

    def __init__(
        self, shared: Shared, *, config: uvicorn.Config, server_state: ServerState
    ) -> None:
        super().__init__(config, server_state, app_state={}, _loop=shared.loop)
        self.bucket = -1
        self._shared = shared
        self._phase = _Phase.HEAD
        self._deadline_s: float | None = None
        self._received = 0  # of this request
        self._unparsed = 0  # of that, since its head or a part of its body was complete
        self._head_size = 0
        self._header_count = 0
        self._upgrading = False
        self._framing: bytes | None = None
        self._repeating_head = False

    # --- from the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head; uvicorn narrows the argument as well."""
        super().connection_made(transport)
        self._expect(_Phase.HEAD, self._shared.limits.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the socket."""
        self._shared.deadlines.forget(self)
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The peer sends no more; the transport closes by itself when all is written."""
        self._expect_the_end()

    def pause_writing(self) -> None:
        """The peer does not read its answers; it has as long as for a body."""
        super().pause_writing()
        if self._phase is _Phase.ANSWER:
            self._await_answer()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
        if self._phase is _Phase.ANSWER:
            self._await_answer()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; on an upgrade the socket is handed over with the bytes behind it."""
        limits = self._shared.limits
        if self._phase is _Phase.IDLE:
            self._expect(_Phase.HEAD, limits.head_timeout_s)
        self._received += len(data)
        self._unparsed += len(data)
        try:
            self._feed(data)
            if self._received > limits.head_size_max + BODY_DISCARD_MAX:
                raise PayloadTooLarge
            # The parser keeps a header or trailer until it is complete. Chunk sizes with their
            # extensions are not kept, but have no end either.
            if self._unparsed > limits.head_size_max and self._phase in (_Phase.HEAD, _Phase.BODY):
                raise HeadTooLarge
        except RequestRefused as error:
            self._refuse(error)

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._upgrading:
                    self._hand_over(data)
                    return
                # An upgrade to something else (h2c) is answered as if it were not asked for
                # (RFC 9110, 7.8), and the connection goes on.
                if self._framing is not None:
                    self._parse_body(self._framing)
            except httptools.HttpParserError as error:
                cause = error.__context__
                if cause is None or isinstance(cause, httptools.HttpParserError):
                    raise BadRequest from error
                # What a callback raised: a refusal, or a bug.
                raise cause from None
            else:
                return

    def _parse_body(self, framing: bytes) -> None:
        """Go on with the body behind an upgrade that is not granted.

        The parser takes all that follows such a head for another protocol's, so another parser is
        told the body's framing alone.
        """
        self._framing = None
        self.parser = httptools.HttpRequestParser(self)
        self._repeating_head = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        self._repeating_head = False

    # --- from the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._repeating_head:
            return
        super().on_message_begin()
        if self._phase is not _Phase.HEAD:
            self._expect(_Phase.HEAD, self._shared.limits.head_timeout_s)
        self._received = self._unparsed = self._head_size = self._header_count = 0
        self._upgrading = False

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        if self._repeating_head:
            return
        super().on_url(url)
        self._head_size = len(self.url)
        if self._head_size > URL_SIZE_MAX:
            raise UriTooLong

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header with its name as sent, or count a trailer and drop it."""
        if self._repeating_head:
            return
        limits = self._shared.limits
        self._header_count += 1
        self._head_size += len(name) + len(value)
        if self._header_count > limits.header_count_max or self._head_size > limits.head_size_max:
            raise HeadTooLarge
        if self._phase is _Phase.HEAD:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head; a plain request goes to the application."""
        if self._repeating_head:
            return
        headers, version = self.headers, self.parser.get_http_version()
        target = origin_form(self.url)
        lowered = [(name.lower(), value) for name, value in headers]
        names = [name for name, _ in lowered]
        if version == "1.1" or b"host" in names:
            only_host(lowered)
        if self.parser.should_upgrade() or version != "1.1":
            self._upgrading = wants_websocket(headers)
        if self._upgrading:
            if version != "1.1" or not self.parser.should_upgrade() or has_body(headers):
                raise BadRequest
            return
        if version not in _VERSIONS or len(self.pipeline) >= PIPELINE_MAX:
            raise BadRequest
        if self.parser.should_upgrade() and has_body(headers):
            self._framing = b"\r\n".join(
                name + b": " + value for name, value in headers if name.lower() in _FRAMING_HEADERS
            )
        self.headers[:] = lowered
        self.expect_100_continue = b"expect" in names and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in lowered
        )
        self._unparsed = 0
        self._expect(_Phase.BODY, self._shared.limits.body_timeout_s)
        self._begin_exchange(target, version)

    def _begin_exchange(self, target: str, version: str) -> None:
        """Give a request to the application, or let it wait for the answer to the one before.

        What uvicorn does here, without parsing the URL once more. `path` is left to the application,
        which needs it for pages only.
        """
        scope, before = self.scope, self._cycle()
        path, _, query = target.partition("#")[0].partition("?")
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["raw_path"] = path.encode("ascii")
        scope["query_string"] = query.encode("ascii")
        self.cycle = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on, or drop it when the answer is there already."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request's body."""
        if self._upgrading or self._framing is not None:
            return
        answered = self.cycle.response_complete
        self._await_answer()
        super().on_message_complete()
        if answered:
            self._await_next_request()

    def _should_upgrade(self) -> bool:
        return self._upgrading

    # --- from the application

    def on_response_complete(self) -> None:
        """Go on with the next request; without uvicorn's timer for each."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._expect_the_end()
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase is _Phase.ANSWER:
            self._await_next_request()

    # --- deadlines

    def _await_answer(self) -> None:
        self._phase, self._deadline_s = _Phase.ANSWER, None
        if self.flow.write_paused:
            self._expect(_Phase.ANSWER, self._shared.limits.body_timeout_s)

    def _await_next_request(self) -> None:
        self._expect(_Phase.IDLE, self._shared.limits.keep_alive_timeout_s)

    def _expect_the_end(self) -> None:
        self._expect(self._phase, self._shared.limits.close_timeout_s)

    def _expect(self, phase: _Phase, within_s: float) -> None:
        self._phase = phase
        self._deadline_s = at_s = self._shared.clock.monotonic_s() + within_s
        # Three times per request, and mostly there is an earlier visit already.
        if not -1 < self.bucket <= at_s:
            self._shared.deadlines.watch(self, at_s)

    def visit(self, now_s: float) -> float | None:
        """Refuse a request that is too slow; close a connection without one."""
        if self._deadline_s is None or now_s < self._deadline_s:
            return self._deadline_s
        phase = self._phase
        if self.transport.is_closing() or phase is _Phase.ANSWER:
            # The peer does not read.
            self.transport.abort()
        elif phase is _Phase.IDLE or (phase is _Phase.BODY and self.cycle.response_complete):
            self.transport.close()
            self._expect_the_end()
        elif phase is _Phase.BODY and self.flow.read_paused:
            # What the gateway does not read cannot be late.
            self._expect(phase, self._shared.limits.body_timeout_s)
        else:
            self._refuse(RequestTimeout())
        return None

    # --- ends

    def _hand_over(self, tail: bytes) -> None:
        shared, transport, headers = self._shared, self.transport, self.headers
        shared.refuse_while_draining()
        accept = accept_key(self.parser.get_method(), headers)
        if self.client is None or self.server is None:
            # The peer is gone already; the kernel hands out what it had sent all the same.
            transport.abort()
            return
        handshake = Handshake(
            target=origin_form(self.url),
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
            host=only_host(headers).decode("latin-1"),
            source_ip=self.client[0],
            scheme=self.scheme or "http",
            port=self.server[1] or 0,
            received_at_ms=shared.clock.epoch_ms(),
        )
        if not self._may_answer() or self.flow.write_paused:
            # Two answers would mix; and the socket would not be told again to pause writing.
            transport.abort()
            return
        self._leave()
        OpeningHandshake(shared, transport, handshake, accept, tail)

    def _refuse(self, error: RequestRefused) -> None:
        self._shared.dispatch.refused(error)
        transport, cycle = self.transport, self._cycle()
        if not self._may_answer():
            # The peer would take this answer for another request's.
            transport.abort()
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self._leave()
        transport.write(refusal(error, self._shared.date, self._shared.entropy))
        Farewell(self._shared, transport)

    def _may_answer(self) -> bool:
        """Whether an answer written now is the answer to the request that is being read."""
        cycle = self._cycle()
        match self._phase:
            case _Phase.HEAD:
                return cycle is None or cycle.response_complete
            case _Phase.BODY:
                return not self.cycle.response_started and not self.pipeline
            case _:
                return False

    def _cycle(self) -> RequestResponseCycle | None:
        # uvicorn declares it without None, which it is before the first request.
        return self.cycle

    def _leave(self) -> None:
        """Let go of the socket and of the parser, which refers back to this object."""
        self._shared.deadlines.forget(self)
        self.connections.discard(self)
        del self.parser
