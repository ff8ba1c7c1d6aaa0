"""One HTTP request and its answer.

uvicorn checks and writes head and body apart, which for a short answer costs more than the rest of
it. Here an answer that is given at once, with its length, is one write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent

_HOP_BY_HOP = (b"connection", b"transfer-encoding")


class Exchange(RequestResponseCycle):
    """A request and its answer, which leaves in one write where it is given at once."""

    _start: HTTPResponseStartEvent | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Take a part of the answer; the head is kept until there is a body."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if message["type"] == "http.response.body" and self._answer(start, message):
                return
            await super().send(start)
        await super().send(message)

    def _answer(self, start: HTTPResponseStartEvent, message: HTTPResponseBodyEvent) -> bool:
        """Write a whole answer.

        Returns:
            False when there is something about it that uvicorn knows better.
        """
        body = message.get("body", b"")
        if self.flow.write_paused or self.disconnected or message.get("more_body"):
            return False
        headers = (*self.default_headers, *start["headers"])
        content, length = [STATUS_LINE[start["status"]]], None
        for name, value in headers:
            folded = name.lower()
            if folded == b"content-length":
                length = int(value)
            elif folded in _HOP_BY_HOP:
                return False
            content += (name, b": ", value, b"\r\n")
        if length != len(body) or self.scope["method"] == "HEAD":
            return False
        if not self.keep_alive:
            content.append(b"connection: close\r\n")
        content.append(b"\r\n")
        head = b"".join(content)
        lines = len(headers) + (2 if self.keep_alive else 3)
        # A header that would be two.
        if not head.count(b"\r") == head.count(b"\n") == lines:
            return False
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.transport.write(head + body)
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True
