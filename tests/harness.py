"""A whole gateway in the test's own process and event loop, on a free port."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Any

import boto3
import botocore.config
from websockets.asyncio.client import ClientConnection, connect

from tests.listener.raw import raw_client
from wsgateway.api.definition import ApiDefinition
from wsgateway.clock import SystemClock
from wsgateway.gateway import Gateway
from wsgateway.loaders.source import LoadedApi
from wsgateway.ports import bind_ports
from wsgateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from tests.listener.raw import RawClient

Event = dict[str, Any]


class MovableClock(SystemClock):
    """The machine's time, and what a test adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def epoch_ms(self) -> int:
        return super().epoch_ms() + int(self.ahead_s * 1000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class Running:
    """A gateway that serves.

    Attributes:
        events: What the handlers made by `recording` received, in order.
    """

    def __init__(self, gateway: Gateway, clock: MovableClock, events: list[Event]) -> None:
        self.gateway = gateway
        self.clock = clock
        self.events = events

    @property
    def shared(self) -> Any:
        return self.gateway._shared

    @property
    def authority(self) -> str:
        return self.gateway.websocket_urls[0].split("/")[2]

    @property
    def port(self) -> int:
        return int(self.authority.rpartition(":")[2])

    def url(self, stage: str = "dev", rest: str = "") -> str:
        return f"ws://{self.authority}/{stage}{rest}"

    def callback_url(self, stage: str = "dev") -> str:
        return f"http://{self.authority}/{stage}"

    def connect(self, stage: str = "dev", rest: str = "", **options: Any) -> connect:
        """Connect with the websockets library; compression and keepalive pings are off."""
        options = {"compression": None, "ping_interval": None, "proxy": None, **options}
        return connect(self.url(stage, rest), **options)

    def advance(self, seconds: float) -> None:
        """Move the gateway's clock and do what is due by then."""
        self.clock.ahead_s += seconds
        self.shared.deadlines.sweep(self.clock.monotonic_s())

    def event(self, event_type: str) -> Event:
        """Return the only recorded event of a type: CONNECT, MESSAGE or DISCONNECT."""
        [event] = [e for e in self.events if e["requestContext"]["eventType"] == event_type]
        return event


@asynccontextmanager
async def serving(
    handlers: Mapping[str, Callable[[Event, Any], Any]],
    *,
    two_way: tuple[str, ...] = (),
    definition: Mapping[str, Any] | None = None,
    events: list[Event] | None = None,
    access_log: IO[bytes] | None = None,
    pretty: bool = False,
    functions: Mapping[str, Callable[[Event, Any], Any]] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Serve handlers by route key until the block ends, then drain.

    Args:
        handlers: By route key; a coroutine function runs on the test's loop.
        two_way: Route keys whose replies are sent.
        definition: More of the API, in apigatewayv2's names.
        events: A list that `recording` handlers were given.
        access_log: Where lines per message go.
        pretty: In which form.
        functions: By the name of the integration.
        settings: Of the gateway.
    """
    routes = {
        key: {"routeResponseSelectionExpression": "$default"} if key in two_way else {}
        for key in handlers
    }
    api = ApiDefinition.model_validate({"routes": routes, **(definition or {})})
    clock = MovableClock()
    merged = Settings(**{"port": 0, "drain_close_rate": 1e6, "grace_period_s": 5, **settings})
    gateway = Gateway(
        merged,
        LoadedApi(api, handlers, {key: key.lstrip("$") for key in handlers}, functions or {}),
        bind_ports(merged),
        access_log=access_log,
        pretty=pretty,
        clock=clock,
    )
    await gateway.start()
    try:
        yield Running(gateway, clock, [] if events is None else events)
    finally:
        await gateway.stop()


def slow_client(running: Running) -> AbstractAsyncContextManager[RawClient]:
    """Return a client for whom the kernel keeps little: what it does not read stays unsent."""
    # The sockets that a listening socket accepts take its size over.
    listening = running.gateway._ports.public[0]
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return raw_client(running.port)


def recording(events: list[Event], result: Any = None) -> Callable[[Event, Any], Any]:
    """Return a handler that records its events and answers 200, or with `result`."""

    async def handler(event: Event, context: Any) -> Any:
        events.append(event)
        return {"statusCode": 200} if result is None else result

    return handler


async def echo(event: Event, context: Any) -> Any:
    """Answer with the message."""
    return {"statusCode": 200, "body": event["body"]}


async def connection_id_of(client: ClientConnection) -> str:
    """Return a client's connection id, which error frames carry; no route may match `?`."""
    await client.send('{"action":"?"}')
    reply = await client.recv()
    return str(reply).partition('"connectionId":"')[2].partition('"')[0]


def callback_client(url: str) -> Any:
    """Return boto3's client for the callback API, for calls in a thread."""
    return boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )
