"""Gateways in processes of their own that share a Redis, their clients, and posts to them.

What must not be lost is written where a killed process cannot take it along: each call of `$connect`
and `$disconnect` is a line that its handler appends to a file.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import re
import time
from collections import Counter, deque
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

# As long as a busy machine may need; what is asserted of times is asserted apart from it.
# The pool of connections to Redis keeps those that it has opened.
REDIS_CONNECTIONS_MAX = 16
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
_PAIR_POSTS = 10
# Connections to Redis stay open for the next time that as much is asked of it at once. Far fewer than
# any test has clients, each of which has a descriptor.
_REDIS_POOL_GROWTH = 8
_NUMBERS = itertools.count(1)
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


@dataclass(slots=True)
class Post:
    """One message to one client, posted again when the answer is 500 or none.

    Attributes:
        answers: The statuses.
    """

    client: Client
    through: Node
    text: str
    began_at: float
    ended_at: float = 0.0
    answers: list[int] = field(default_factory=list)

    @property
    def times_max(self) -> int:
        """How often it may arrive: 500 says that it may have."""
        return sum(answer in {OK, FAILED, NO_ANSWER} for answer in self.answers)


class Load:
    """Posts to clients, through nodes, until the block ends.

    Both lists may be changed meanwhile.

    Args:
        fleet: Posts.
        clients: To one of them at a time.
        through: By way of one of them.
        posters: Posts at once.
        tries: How often a post is tried.
    """

    def __init__(
        self,
        fleet: Fleet,
        clients: list[Client],
        through: list[Node],
        *,
        posters: int = 8,
        tries: int = 1,
    ) -> None:
        self.clients = clients
        self.through = through
        self.posts: list[Post] = []
        self._fleet = fleet
        self._posters = posters
        self._tries = tries
        self._pairs: dict[tuple[Node, Node], deque[Post]] = {}
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._post()) for _ in range(self._posters)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Post no more; those under way are answered first."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _post(self) -> None:
        while not self._stopping:
            # A load, not as many as it can: the nodes share the machine with the test.
            await asyncio.sleep(0.01)
            if not self.clients or not self.through:
                continue
            client, through = random.choice(self.clients), random.choice(self.through)
            post = Post(client, through, f"post {next(_NUMBERS)}", time.monotonic())
            self.posts.append(post)
            while len(post.answers) < self._tries and post.answers[-1:] in (
                [],
                [FAILED],
                [NO_ANSWER],
            ):
                post.answers.append(
                    await self._fleet.post(through, client.connection_id, post.text)
                )
            post.ended_at = time.monotonic()
            pair = self._pairs.setdefault((through, client.node), deque(maxlen=_PAIR_POSTS))
            pair.append(post)

    async def flows(self, since: float) -> float:
        """Wait until posts between all nodes succeed.

        Args:
            since: Monotonic seconds; posts that began before do not count.

        Returns:
            How long after that the last one failed.
        """
        pairs = [
            (through, owner)
            for through in self.through
            for owner in {client.node for client in self.clients}
        ]
        await until(lambda: all(self._pair_flows(pair, since) for pair in pairs), DEADLINE_S)
        failed = [post.ended_at for post in self.posts if set(post.answers) - {OK}]
        return max([since, *failed]) - since

    def _pair_flows(self, pair: tuple[Node, Node], since: float) -> bool:
        posts = self._pairs.get(pair, ())
        return len(posts) == _PAIR_POSTS and all(
            post.began_at > since and post.answers == [OK] for post in posts
        )

    def statuses(self, clients: Sequence[Client] | None = None) -> Counter[int]:
        """Count the answers, to posts to these clients or to all."""
        of = None if clients is None else set(clients)
        return Counter(
            answer
            for post in self.posts
            if of is None or post.client in of
            for answer in post.answers
        )

    async def balances(self) -> int:
        """See that clients that are still connected got what they were said to get.

        Returns:
            How many posts that were answered 200 did not reach clients that are gone by now.
        """
        await self.stop()
        # An answer may overtake the message it is about.
        await until(lambda: not self.missing(of_gone=False), DEADLINE_S)
        assert self.too_often() == []
        return len(self.missing(of_gone=True))

    def missing(self, *, of_gone: bool) -> list[str]:
        """Return posts that were answered 200 and not received.

        Args:
            of_gone: To clients whose connection has ended, or to those whose connection has not.
        """
        received = {client: set(client.received) for client in {p.client for p in self.posts}}
        return [
            post.text
            for post in self.posts
            if OK in post.answers
            and post.client.is_open != of_gone
            and post.text not in received[post.client]
        ]

    def too_often(self) -> list[str]:
        """Return posts that were received more often than their answers allow."""
        times = Counter(
            text for client in {post.client for post in self.posts} for text in client.received
        )
        return [post.text for post in self.posts if times[post.text] > post.times_max]


def once(events: Sequence[Event], clients: Sequence[Client]) -> bool:
    """Whether each of these clients had exactly one `$disconnect`, and nobody else had any."""
    return sorted(event.connection_id for event in events) == sorted(
        client.connection_id for client in clients
    )


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print a figure next to the test's name."""
    with capsys.disabled():
        print(f" [{text}]", end="")  # noqa: T201 - a figure
