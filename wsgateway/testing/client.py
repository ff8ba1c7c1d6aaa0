"""A client of a gateway that is tested: small, bounded in time, and telling when it waits in vain."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from wsgateway.testing.errors import ConnectionEnded, ConnectRefused, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from websockets.asyncio.client import ClientConnection

    from wsgateway.testing.calls import Events, Recorder


class Closed(NamedTuple):
    """How a connection ended; equal to the tuple of both.

    Attributes:
        code: The close code; 1006 if the socket ended without a close frame.
        reason: The close reason.
    """

    code: int
    reason: str


class Client:
    """A client that is connected.

    Attributes:
        connection_id: The id that the handlers see.
        stage: Where it is connected.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        connection_id: str,
        stage: str,
        events: Events,
        timeout_s: float,
    ) -> None:
        self.connection_id = connection_id
        self.stage = stage
        self._websocket = websocket
        self._events = events
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"<Client {self.connection_id}>"

    @property
    def subprotocol(self) -> str | None:
        """What `$connect` chose."""
        return self._websocket.subprotocol

    @property
    def close_code(self) -> int | None:
        """The close code; None while the connection is open."""
        return self._websocket.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason; None while the connection is open."""
        return self._websocket.close_reason

    async def send(self, message: Any) -> None:
        """Send a message: text as it is, bytes in a binary frame, anything else as JSON.

        Raises:
            ConnectionEnded: The connection is closed.
        """
        if not isinstance(message, str | bytes):
            message = json.dumps(message)
        try:
            await self._websocket.send(message)
        except ConnectionClosed as error:
            raise self._ended("a message was to be sent") from error

    async def receive(self, *, timeout_s: float | None = None) -> str:
        """Return the next message.

        Raises:
            TimedOut: None came.
            ConnectionEnded: The connection was closed before one came.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._websocket.recv(decode=True)
        except TimeoutError:
            raise TimedOut(
                f"no message came within {timeout_s:g} s on the connection {self.connection_id}; "
                f"{self._events.story()}"
            ) from self._events.last_error()
        except ConnectionClosed as error:
            cause = self._events.last_error(self) or error
            raise self._ended("a message was waited for") from cause

    async def receive_json(self, *, timeout_s: float | None = None) -> Any:
        """Return the value of the next message, which must be JSON.

        Raises:
            TimedOut: None came.
            ConnectionEnded: The connection was closed before one came.
        """
        message = await self.receive(timeout_s=timeout_s)
        try:
            return json.loads(message)
        except ValueError as error:
            raise AssertionError(f"the message is not JSON: {message!r}") from error

    async def wait_closed(self, *, timeout_s: float | None = None) -> Closed:
        """Wait until the connection is closed, by whomever; messages that are left are kept.

        Raises:
            TimedOut: It stays open.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._websocket.wait_closed()
        except TimeoutError:
            raise TimedOut(
                f"the connection {self.connection_id} was not closed within {timeout_s:g} s; "
                f"{self._events.story()}"
            ) from self._events.last_error()
        return self._outcome()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait until it is; nothing happens when it is closed already."""
        await self._websocket.close(code, reason)

    def vanish(self) -> None:
        """Cut the connection without a close frame, as a client that loses its network."""
        self._websocket.transport.abort()

    async def end(self, timeout_s: float) -> None:
        """See that nothing of it is left, after the gateway has stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._websocket.wait_closed()
                return
        self.vanish()
        await self._websocket.wait_closed()

    def _outcome(self) -> Closed:
        websocket = self._websocket
        return Closed(websocket.close_code or 1006, websocket.close_reason or "")

    def _ended(self, when: str) -> ConnectionEnded:
        code, reason = self._outcome()
        return ConnectionEnded(
            f"the connection {self.connection_id} was closed with {code} {reason!r} when {when}; "
            f"{self._events.story(self)}",
            code,
            reason,
        )


class Connecting:
    """A client to be: `async with` it for as long as it is needed, or `await` it.

    An awaited client is closed with the gateway if it is not closed before.
    """

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, Client]]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        assert self._client is not None
        await self._client.close()


async def connect(
    url: str,
    recorder: Recorder,
    *,
    stage: str,
    query: Mapping[str, str | Sequence[str]],
    headers: Mapping[str, str],
    subprotocols: Sequence[str],
    timeout_s: float,
) -> Client:
    """Connect to a stage.

    Raises:
        ConnectRefused: `$connect` or the gateway said no.
        TimedOut: There was no answer.
    """
    if query:
        url = f"{url}?{urlencode(query, doseq=True)}"
    events = recorder.events
    try:
        async with asyncio.timeout(timeout_s):
            websocket = await websockets.connect(
                url,
                additional_headers=headers,
                subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                ssl=trusting_context() if url.startswith("wss:") else None,
                # Nothing that a test did not ask for: no negotiation, no pings, no way around, and
                # close frames are seen behind messages that nobody has received.
                compression=None,
                ping_interval=None,
                proxy=None,
                max_queue=None,
                max_size=None,
                open_timeout=None,
                close_timeout=timeout_s,
            )
    except TimeoutError:
        raise TimedOut(
            f"the handshake was not answered within {timeout_s:g} s; {events.story()}"
        ) from events.last_error()
    except InvalidStatus as refused:
        response = refused.response
        raise ConnectRefused(
            response.status_code,
            {name.lower(): value for name, value in response.headers.raw_items()},
            bytes(response.body or b"").decode(errors="replace"),
        ) from events.last_error()
    assert websocket.request is not None
    connection_id = recorder.connection_id(websocket.request.headers["Sec-WebSocket-Key"])
    return Client(websocket, connection_id, stage, events, timeout_s)


def trusting_context() -> ssl.SSLContext:
    """Return what speaks TLS with the gateway, which is in this process whatever it says it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
