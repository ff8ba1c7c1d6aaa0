"""Nodes without a listener, which post to each other's connections."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes import FakeConnection
from wsgateway.cluster.bus import Bus, BusLimits
from wsgateway.cluster.connect import Location, Timeouts, parse_location
from wsgateway.cluster.hub import Hub
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.node import Node
from wsgateway.cluster.remote import Remote
from wsgateway.cluster.servers import servers_of
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id
from wsgateway.entropy import random_bytes
from wsgateway.errors import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wsgateway.contracts import Callbacks, ConnectionInfo

KEYS = Keys("wsgateway", "abcde12345")
# As long as a busy machine may need.
TIMEOUTS = Timeouts(connect_s=2.0, answer_s=2.0)
PING_INTERVAL_S = 1.0
BACK_WITHIN_S = 30.0


@dataclass
class Facts:
    """What the registry knows."""

    live: set[bytes] = field(default_factory=set)
    is_whole: bool = True

    async def is_live(self, tag: bytes) -> bool:
        return tag in self.live

    def whole(self) -> bool:
        return self.is_whole


class Peer:
    """A node without a listener."""

    def __init__(
        self, location: Location, facts: Facts, limits: BusLimits, tag: bytes | None = None
    ) -> None:
        self.tag = tag or random_bytes(3)
        self.facts = facts
        self.hub = Hub()
        self.callbacks: Callbacks = Node(self.hub)
        servers = servers_of(location, TIMEOUTS, client_name="wsgateway")
        self.bus = Bus(
            servers,
            inbox_of=KEYS.inbox,
            tag=self.tag,
            incarnation=self.tag.hex(),
            local=self,
            ping_interval_s=PING_INTERVAL_S,
            limits=limits,
        )
        self.remote = Remote(self.bus, facts, facts)

    # What is local can be replaced while a test runs.

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        await self.callbacks.post(key, payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        return await self.callbacks.get(key)

    async def delete(self, key: ConnectionKey) -> None:
        await self.callbacks.delete(key)

    def connect(self) -> FakeConnection:
        connection_id = new_connection_id(self.tag, random_bytes(10))
        key = ConnectionKey("abcde12345", "dev", connection_id)
        connection = FakeConnection(ConnectionEntry(key, 1708326702789, "host", "::1", None))
        self.hub.add(connection)
        return connection

    async def healthy(self) -> None:
        async with asyncio.timeout(BACK_WITHIN_S):
            await self.bus.subscription.wait_healthy()

    async def lost(self) -> None:
        """Wait until it has been lost, from which it may have recovered by now."""
        await until(lambda: self.bus.subscription.lost_count)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        # There is no event for what a test looks at from outside.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def reason_of_loss(logs: Sequence[Mapping[str, object]]) -> str:
    """Return why the first inbox was lost that was lost; by now it may have recovered."""
    return next(str(line["reason"]) for line in logs if "inbox is lost" in str(line["event"]))


class Nodes:
    """The nodes of one test."""

    def __init__(self, where: str | Location) -> None:
        self.location = parse_location(where) if isinstance(where, str) else where
        self.facts = Facts()
        self.all: list[Peer] = []

    async def start(self, limits: BusLimits | None = None, tag: bytes | None = None) -> Peer:
        limits = limits or BusLimits(delivery_timeout_s=3.0)
        peer = Peer(self.location, self.facts, limits, tag)
        peer.bus.start()
        self.all.append(peer)
        self.facts.live.add(peer.tag)
        await peer.healthy()
        return peer

    async def close(self) -> None:
        for peer in self.all:
            await peer.bus.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def flows(asker: Peer, connection: FakeConnection) -> float:
    """Post until one is written, and return how long it took."""
    began_at = time.monotonic()
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            try:
                await asker.remote.post(connection.entry.key, b"again")
            except DeliveryFailed:
                await asyncio.sleep(0.01)
            else:
                return time.monotonic() - began_at
