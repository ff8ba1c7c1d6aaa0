"""Every seam: the protocols on both sides of it and the records that cross it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
    from wsgateway.errors import RequestRefused
    from wsgateway.events import RouteRequest


@dataclass(frozen=True, slots=True)
class Accepted:
    """The verdict that lets a client in."""

    entry: ConnectionEntry
    subprotocol: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The verdict that keeps a client out.

    Attributes:
        status: The HTTP status of the answer.
        error_type: `x-amzn-ErrorType`; None when `$connect` itself chose the status.
        body: JSON text; empty when `$connect` itself chose the status.
        request_id: The request's id, for the answer's headers.
    """

    status: int
    error_type: str | None
    body: bytes
    request_id: str


class IntegrationResponse(NamedTuple):
    """What an integration answered.

    Attributes:
        status_code: 200 to 599 where it is a handshake's answer; any integer otherwise.
        subprotocol: The value of `Sec-WebSocket-Protocol`, if it set one.
        payload: The reply of a two-way route; None when there is no body.
    """

    status_code: int
    subprotocol: str | None
    payload: bytes | None


class Integration(Protocol):
    """What a route does with a message."""

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Pass the request on and wait for the answer.

        Raises:
            IntegrationFault: There is no answer that can be used.
        """
        ...


class Invoker(Protocol):
    """What runs a function."""

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        """Run the function once and return its result as JSON values.

        Raises:
            IntegrationFault: It refused, failed or took longer than `timeout_s`.
        """
        ...


class HttpResponse(NamedTuple):
    """What an HTTP backend answered; header names as it wrote them."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class HttpClient(Protocol):
    """Sends requests to backends over kept-open connections."""

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout_s: float,
    ) -> HttpResponse:
        """Send one request, once, and read the whole answer; redirects are not followed.

        Raises:
            IntegrationTimeout: It took longer than `timeout_s`.
            IntegrationFault: There is no answer, or one that is too large.
        """
        ...


class ConnectionInfo(NamedTuple):
    """What `GET @connections` tells; instants are epochs in milliseconds."""

    connected_at_ms: int
    last_active_at_ms: int
    source_ip: str
    user_agent: str | None


class Connection(Protocol):
    """A client's open WebSocket, as the rest of the node sees it."""

    entry: ConnectionEntry

    def send(self, payload: bytes) -> None:
        """Hand one text message over; it is written in order, in frames of at most 32 KiB.

        Args:
            payload: UTF-8, at most `MESSAGE_SIZE_MAX` bytes.

        Raises:
            Gone: The closing handshake has begun.
            LimitExceeded: The client does not read, and its buffer is full.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; nothing happens when it has begun already."""
        ...

    def leave(self) -> None:
        """Close with 1001 as soon as the messages taken are answered."""
        ...

    def info(self) -> ConnectionInfo:
        """Tell what a backend may know of the connection."""
        ...


class Registry(Protocol):
    """Who owns which connection, and what a `$disconnect` of it would say."""

    @property
    def is_accepting(self) -> bool:
        """Whether `add` would take a connection now."""
        ...

    async def add(self, entry: ConnectionEntry) -> None:
        """Record an accepted connection before the client hears of it.

        Raises:
            RequestRefused: It cannot be recorded.
        """
        ...

    async def claim(self, key: ConnectionKey, request_id: str, code: int, reason: str) -> bool:
        """Record the one `$disconnect` that a connection gets, before it is delivered.

        Should this node end before `finish`, another delivers it, with the same request id.

        Returns:
            False when there is one already: its outcome is recorded.
        """
        ...

    async def finish(self, key: ConnectionKey) -> None:
        """Forget a connection whose `$disconnect` has been delivered."""
        ...


class Callbacks(Protocol):
    """What a backend can do to a connection, wherever it is.

    Each raises `Gone`; `post` also what `Connection.send` raises.
    """

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        """Send one message."""
        ...

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        """Tell what is known."""
        ...

    async def delete(self, key: ConnectionKey) -> None:
        """Close it with 1000."""
        ...


class Dispatch(Protocol):
    """What the listener asks of the rest of the gateway."""

    async def connect(self, handshake: Handshake) -> Accepted | Rejected:
        """Decide on a handshake; runs `$connect`."""
        ...

    async def message(self, connection: Connection, body: str) -> None:
        """Route one message; sends the reply or error frame, if any, on the connection."""
        ...

    async def disconnect(self, entry: ConnectionEntry, code: int, reason: str) -> None:
        """Run `$disconnect`, after the socket is gone."""
        ...

    def refused(self, error: RequestRefused) -> None:
        """Count a request that was refused before a stage was known."""
        ...


class Clock(Protocol):
    """The only source of time. A test advances its own."""

    def epoch_ms(self) -> int:
        """Tell the wall clock's milliseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Tell seconds from an arbitrary start that never run backwards."""
        ...
