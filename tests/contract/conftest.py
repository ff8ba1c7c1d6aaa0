"""One gateway for the tests of a module, since starting and stopping takes a fifth of a second.

A module that asks for `api` says in `ROUTES` which routes there are, and in `TWO_WAY` which of them
answer. A test says what their handlers do.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from structlog.testing import capture_logs

from tests.harness import callback_client, serving
from tests.listener.raw import eventually, nothing_unhandled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

    from tests.harness import Event, Running

    Handler = Callable[[Event, Any], Awaitable[Any] | Any]


class Api:
    """An API whose handlers a test sets.

    Attributes:
        running: The gateway.
        events: What the handlers received, in order.
        handlers: By route key; the others answer 200.
        logs: What the gateway logged about itself during this test.
    """

    def __init__(self) -> None:
        self.running: Running
        self.events: list[Event] = []
        self.handlers: dict[str, Handler] = {}
        self.logs: list[Any] = []

    async def handle(self, route_key: str, event: Event, context: Any) -> Any:
        self.events.append(event)
        handler = self.handlers.get(route_key)
        result = {"statusCode": 200} if handler is None else handler(event, context)
        return await result if inspect.isawaitable(result) else result

    def answer(self, route_key: str, result: Any) -> None:
        """Make a route's handler return this."""
        self.handlers[route_key] = lambda event, context: result

    def reset(self) -> None:
        self.events.clear()
        self.handlers.clear()

    def of_type(self, event_type: str) -> list[Event]:
        return [e for e in self.events if e["requestContext"]["eventType"] == event_type]

    @property
    def port(self) -> int:
        return self.running.port

    @property
    def connection_id(self) -> str:
        """The id of the connection that was opened last."""
        return str(self.of_type("CONNECT")[-1]["requestContext"]["connectionId"])

    @property
    def metrics(self) -> Any:
        return self.running.gateway._metrics

    def connect(self, stage: str = "dev", rest: str = "", **options: Any) -> Any:
        """Connect with the websockets library."""
        return self.running.connect(stage, rest, **options)

    def management(self, stage: str = "dev") -> Any:
        """Return boto3's client for the callback API; for threads."""
        return callback_client(self.running.callback_url(stage))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served_api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    api = Api()
    handlers = {key: partial(api.handle, key) for key in request.module.ROUTES}
    definition: dict[str, Any] = {"stages": {"dev": {}, "prod": {}}}
    async with serving(
        handlers,
        two_way=getattr(request.module, "TWO_WAY", ()),
        definition=definition,
        api_id="abcde12345",
    ) as api.running:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def api(served_api: Api) -> AsyncIterator[Api]:
    served_api.reset()
    with nothing_unhandled(), capture_logs() as served_api.logs:
        yield served_api
        # What a test has left open ends before the next one begins.
        shared = served_api.running.shared
        await eventually(lambda: not shared.tasks and not shared.websockets_open)
