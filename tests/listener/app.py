"""An application that does what a test tells it to."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.harness import serving
from tests.listener.raw import eventually, nothing_unhandled
from wsgateway.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.harness import Event, Running


class App:
    """Routes `$connect`, `$disconnect` and a two-way one for messages.

    Attributes:
        gateway: What serves it.
        events: What its handlers received.
        on_connect: Makes `$connect`'s answer; may be a coroutine function.
        on_message: Makes the answer to a message from its text; likewise.
    """

    def __init__(self) -> None:
        self.gateway: Running
        self.reset()

    def reset(self) -> None:
        self.events: list[Event] = []
        self.on_connect: Callable[[], Any] = lambda: {"statusCode": 200}
        self.on_message: Callable[[str], Any] = lambda body: {"statusCode": 200, "body": body}

    async def connect(self, event: Event, context: Any) -> Any:
        self.events.append(event)
        result = self.on_connect()
        return await result if inspect.iscoroutine(result) else result

    async def disconnect(self, event: Event, context: Any) -> Any:
        self.events.append(event)
        return {"statusCode": 200}

    async def message(self, event: Event, context: Any) -> Any:
        self.events.append(event)
        result = self.on_message(event["body"])
        return await result if inspect.iscoroutine(result) else result

    @property
    def port(self) -> int:
        return self.gateway.port

    def event_types(self) -> list[str]:
        return [event["requestContext"]["eventType"] for event in self.events]

    def messages(self) -> list[str]:
        return [event["body"] for event in self.events if "body" in event]

    async def disconnected(self) -> tuple[int, str]:
        """Wait for the only DISCONNECT event; return its code and reason."""
        await eventually(lambda: "DISCONNECT" in self.event_types())
        [context] = [
            event["requestContext"]
            for event in self.events
            if event["requestContext"]["eventType"] == "DISCONNECT"
        ]
        return context["disconnectStatusCode"], context["disconnectReason"]

    def connection(self) -> Any:
        """Return the only open connection of the node."""
        [connection] = self.gateway.shared.hub.snapshot()
        return connection


def fill(connection: Any, payload: bytes = b"x" * 100_000) -> int:
    """Send the same until the send buffer takes no more; returns how often it fitted."""
    for sent in range(100_000):
        try:
            connection.send(payload)
        except LimitExceeded:
            return sent
    raise AssertionError("the send buffer has no bound")


@asynccontextmanager
async def serving_app(route: str = "$default", **settings: Any) -> AsyncIterator[App]:
    """Serve an application of its own, whose only route for messages is this one."""
    app = App()
    handlers = {"$connect": app.connect, "$disconnect": app.disconnect, route: app.message}
    async with serving(handlers, two_way=(route,), **settings) as app.gateway:
        yield app


@asynccontextmanager
async def lent(app: App) -> AsyncIterator[App]:
    """Lend a shared application to one test, and see that the test leaves nothing behind."""
    app.reset()
    shared = app.gateway.shared
    with nothing_unhandled():
        yield app
        await eventually(lambda: not shared.tasks and not shared.websockets_open)
        await eventually(lambda: not len(shared.deadlines))
