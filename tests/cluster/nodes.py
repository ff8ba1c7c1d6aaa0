"""Gateways in processes of their own that share a Redis, their clients, and posts to them.

What must not be lost is written where a killed process cannot take it along: each call of `$connect`
and `$disconnect` is a line that its handler appends to a file.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import quote

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.process import serving, until, write_app

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from tests.e2e.process import GatewayProcess

# The pool of connections to Redis keeps those that it has opened. Far fewer than any test has clients,
# each of which has a descriptor.
REDIS_CONNECTIONS_MAX = 16
# As long as a busy machine may need; what is asserted of times is asserted apart from it.
DEADLINE_S = 30.0
LEASE_S = 1.0
# The defaults' proportions to the lease time.
SETTINGS: Mapping[str, object] = {
    "lease_s": LEASE_S,
    "redis_timeout_s": 0.5,
    "delivery_timeout_s": 1.0,
    "api_id": "abcde12345",
}
OK, GONE, FAILED, UNAVAILABLE, NO_ANSWER = 200, 410, 500, 503, 0
GOING_AWAY = 1001

_RECORD = """\
    import asyncio, os

    FILE = os.open(os.environ["EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    SLOW_S = float(os.environ.get("SLOW_S", "0"))

    async def handler(event, context):
        of = event["requestContext"]
        code = of.get("disconnectStatusCode", 0)
        age_ms = of["requestTimeEpoch"] - of["connectedAt"]
        ids = f'{of["connectionId"]} {of["requestId"]}'
        line = f'{of["eventType"]} {ids} {code} {os.getpid()} {age_ms}\\n'
        os.write(FILE, line.encode())
        if code and SLOW_S:
            await asyncio.sleep(SLOW_S)
        return {"statusCode": 200}
"""
_APP = {
    "connect.py": _RECORD,
    "disconnect.py": _RECORD,
    "whoami.py": """\
        async def handler(event, context):
            return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
    """,
}
# Clients that shake hands at once: more would wait for each other, and for the gateway.
_HANDSHAKES_MAX = 50
_NOBODYS_ID = base64.urlsafe_b64encode(b"\0\0\0\0\0\0\0\0\2\0\0").decode()
_UNDELIVERED = re.compile(
    r"(DeliveryFailed|NotSent|NoReceiver|Unanswered|OwnerFailed|TooManyCalls)\b[^\n]*\Z"
)


class Event(NamedTuple):
    """A call of `$connect` or `$disconnect`.

    Attributes:
        pid: The node's that delivered it.
        age_ms: Of the connection, as the event has it.
    """

    connection_id: str
    request_id: str
    code: int
    pid: int
    age_ms: int


@dataclass(eq=False, slots=True)
class Client:
    """A client of one node.

    Attributes:
        received: Posts, in the order of their arrival.
        reading: Ends when the connection does.
    """

    node: Node
    connection_id: str
    connection: ClientConnection
    received: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        try:
            while True:
                self.received.append(str(await self.connection.recv()))
        except ConnectionClosed:
            return

    @property
    def is_open(self) -> bool:
        return self.reading is not None and not self.reading.done()

    @property
    def tag(self) -> bytes:
        return base64.urlsafe_b64decode(self.connection_id)[:3]

    async def close_code(self) -> int | None:
        """Wait for the end, and return the code that the gateway gave."""
        assert self.reading is not None
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.shield(self.reading)
        return self.connection.close_code


@dataclass(eq=False, slots=True)
class Node:
    """One gateway.

    Attributes:
        descriptors: It had that many before any client came.
        tasks: The same, of its event loop.
    """

    process: GatewayProcess
    descriptors: int = 0
    tasks: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def count_descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that are errors or worse, other than posts that were answered 500."""
        return [
            str(line["event"])
            for line in self.process.log
            if (line.get("level") in {"error", "critical"} or "exception" in line)
            and not _UNDELIVERED.search(str(line.get("exception")))
        ]

    async def who(self) -> dict[str, str]:
        """What it says of itself."""
        return dict(
            re.findall(r'(\w+)="([^"]*)"', await self.process.metric("wsgateway_node_info"))
        )

    async def accepts(self) -> bool:
        """Whether it is ready for connections."""
        return await self.process.health() == OK


class Fleet:
    """Gateways that share a Redis.

    Args:
        folder: For handlers, logs and the record of events.
        redis: Its URL.
        settings: Besides `SETTINGS`.
        slow_s: How long each call of `$disconnect` takes.

    Attributes:
        nodes: Those that have not been counted out.
        clients: All but probes.
        probes: Ids of the fleet's own connections.
    """

    def __init__(
        self,
        folder: Path,
        redis: str,
        *,
        settings: Mapping[str, object] | None = None,
        slow_s: float = 0.0,
    ) -> None:
        self.nodes: list[Node] = []
        self.clients: list[Client] = []
        self.probes: set[str] = set()
        self._folder = folder
        self._redis = redis
        self._settings = {**SETTINGS, **(settings or {})}
        self._record = folder / "events"
        self._record.touch()
        self._record_read = 0
        self._events: dict[str, list[Event]] = {"CONNECT": [], "DISCONNECT": []}
        self._environ = {"EVENTS": str(self._record), "SLOW_S": str(slow_s)}
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=10)
        connector = aiohttp.TCPConnector(limit=0)
        self.session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, connector=connector)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        # Their nodes are dead by now.
        readings = [client.reading for client in self.clients if client.reading is not None]
        await asyncio.gather(*readings, return_exceptions=True)
        await asyncio.gather(*(c.connection.wait_closed() for c in self.clients))

    # --- nodes

    async def start(
        self, count: int = 1, *, each: Sequence[Mapping[str, object]] = ()
    ) -> list[Node]:
        """Start nodes, and wait until each reaches all others.

        Args:
            count: How many.
            each: Settings of each one that are its own.
        """
        own = each or [{}] * count
        started = await asyncio.gather(*map(self._start, own))
        self.nodes += started
        await self._meet()
        for node in started:
            # Until it has watched for a lease time it says of no node that it is gone.
            await until(lambda node=node: self._denies(node))  # type: ignore[misc]
            node.descriptors = node.count_descriptors()
            node.tasks = await node.process.tasks()
        return started

    async def _start(self, own: Mapping[str, object]) -> Node:
        folder = write_app(self._folder / f"node-{next(self._numbers)}", _APP)
        process = await self._stack.enter_async_context(
            serving(
                folder,
                "--redis",
                self._redis,
                settings={**self._settings, **own},
                environ=self._environ,
            )
        )
        return Node(process)

    async def _meet(self) -> None:
        """Let each node post to each other one; what a first post opens stays open."""
        for owner in self.nodes:
            [client] = await self.connect(owner, 1)
            for through in self.nodes:
                await until(lambda t=through, c=client: self.answers(t, c, OK))  # type: ignore[misc]
            await client.connection.close()
            await self.told_of([client])
            self.clients.remove(client)
            self.probes.add(client.connection_id)

    async def _denies(self, through: Node) -> bool:
        return await self.post(through, _NOBODYS_ID, "is there anybody?") == GONE

    async def answers(self, through: Node, client: Client, status: int) -> bool:
        """Whether a post to a client is answered so."""
        return await self.post(through, client.connection_id, "and now?") == status

    def remove(self, node: Node) -> None:
        """Count a node out that has ended."""
        self.nodes.remove(node)

    # --- clients

    async def connect(self, node: Node, count: int) -> list[Client]:
        """Connect clients, and wait until each knows its id."""
        places = asyncio.Semaphore(_HANDSHAKES_MAX)

        async def one() -> Client:
            async with places:
                connection = await connect(
                    node.process.url,
                    compression=None,
                    ping_interval=None,
                    open_timeout=DEADLINE_S,
                    close_timeout=DEADLINE_S,
                    proxy=None,
                )
                try:
                    await connection.send('{"action":"whoami"}')
                    client = Client(node, str(await connection.recv()), connection)
                except BaseException:
                    connection.transport.abort()
                    raise
            client.reading = asyncio.create_task(client.read())
            return client

        clients = await asyncio.gather(*(one() for _ in range(count)))
        self.clients += clients
        return clients

    async def connect_again(self, node: Node) -> tuple[Client, int]:
        """Connect one client, and try again while it is told 503; also return how often it was."""
        ends_at = time.monotonic() + DEADLINE_S
        for refused in itertools.count():
            try:
                [client] = await self.connect(node, 1)
            except InvalidStatus as error:
                if error.response.status_code != UNAVAILABLE or time.monotonic() > ends_at:
                    raise
            else:
                return client, refused
        raise AssertionError("counting never ends")

    async def post(self, through: Node, connection_id: str, text: str) -> int:
        """Post once, and return the status; `NO_ANSWER` if the node does not answer."""
        url = f"{through.process.callback_url}/@connections/{quote(connection_id)}"
        try:
            async with self.session.post(url, data=text.encode()) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return NO_ANSWER

    async def post_each(self, through: Node, clients: Sequence[Client], text: str) -> Counter[int]:
        """Post once to each, and count the statuses."""
        answers: Counter[int] = Counter()
        for start in range(0, len(clients), _HANDSHAKES_MAX):
            batch = clients[start : start + _HANDSHAKES_MAX]
            answers.update(
                await asyncio.gather(*(self.post(through, c.connection_id, text) for c in batch))
            )
        return answers

    # --- what handlers were told

    def _read_record(self) -> None:
        """Take in what is new; each line was written at once."""
        with self._record.open(encoding="utf-8") as record:
            record.seek(self._record_read)
            text = record.read()
            self._record_read = record.tell()
        for line in text.splitlines():
            kind, connection_id, request_id, *numbers = line.split()
            self._events[kind].append(Event(connection_id, request_id, *map(int, numbers)))

    def connects(self) -> list[Event]:
        """Return the calls of `$connect`."""
        self._read_record()
        return list(self._events["CONNECT"])

    def disconnects(self, clients: Sequence[Client] | None = None) -> list[Event]:
        """Return the calls of `$disconnect`: all, or those for these clients."""
        self._read_record()
        events = list(self._events["DISCONNECT"])
        if clients is None:
            return events
        ids = {client.connection_id for client in clients}
        return [event for event in events if event.connection_id in ids]

    async def told_of(self, clients: Sequence[Client]) -> list[Event]:
        """Wait until each of these clients had its `$disconnect`, and return them."""
        ids = {client.connection_id for client in clients}
        await until(
            lambda: ids <= {event.connection_id for event in self.disconnects()}, DEADLINE_S
        )
        return self.disconnects(clients)

    # --- the end of a test

    async def settle(self, *, complaints: Sequence[str] = ()) -> None:
        """End all clients: every connection had one `$disconnect`, and nothing is left of any.

        Args:
            complaints: What nodes may have logged as an error.
        """
        await asyncio.gather(*(client.connection.close() for client in self.clients))
        await self.told_of(self.clients)
        await self.session.close()
        for node in self.nodes:
            await self.is_idle(node)
            assert set(node.complaints) <= set(complaints)
        connected = Counter(event.connection_id for event in self.connects())
        told = {(event.connection_id, event.request_id) for event in self.disconnects()}
        assert set(connected.values()) == {1}
        assert sorted(connected) == sorted(connection_id for connection_id, _ in told)

    async def is_idle(self, node: Node) -> None:
        """Wait until nothing is left of its connections, descriptors included.

        Raises:
            AssertionError: Something is left.
        """
        left: dict[str, int] = {}

        async def is_idle() -> bool:
            left["connections"] = await node.process.connections()
            left["calls of functions"] = await node.process.functions_running()
            left["tasks"] = max(0, await node.process.tasks() - node.tasks)
            more = node.count_descriptors() - node.descriptors
            left["descriptors"] = max(0, more - REDIS_CONNECTIONS_MAX)
            return not any(left.values())

        try:
            await until(is_idle, DEADLINE_S)
        except TimeoutError as error:
            raise AssertionError(f"leaked: {left}") from error


def once(events: Sequence[Event], clients: Sequence[Client]) -> bool:
    """Whether each of these clients had exactly one `$disconnect`, and nobody else had any."""
    return sorted(event.connection_id for event in events) == sorted(
        client.connection_id for client in clients
    )


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print a figure next to the test's name."""
    with capsys.disabled():
        print(f" [{text}]", end="")  # noqa: T201 - a figure
